package launcher

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/launcher/landlock"
)

// A prepared run is what the first half of a run hands to the second: all that has to be locked, made or started while the host is still open
// to mica. The second half meets the guest, and is confined.
type prepared struct {
	Plan     *Plan
	State    State
	Streams  [3]kept // standard input, output and error
	TTY      bool
	Detached *detached // nil in the foreground

	Dir   string        // the run folder
	Home  string        // the sandbox's folder: its upper and its logs
	Upper *fusefs.Upper // nil for a read-only sandbox
	Locks []kept        // of these folders

	Janitor *janitor
	Daemons []*stage // one for each share that a virtiofsd serves
	VMM     *stage
	Control kept // the host's end of the control port
	Console kept // and of the guest's console
	Words   kept // a pipe: what the monitor and the daemons say
}

// A kept file stays open when this process executes itself: it is encoded as its number, which it keeps.
type kept struct{ *os.File }

// GobEncode has the file inherited from now on.
func (k kept) GobEncode() ([]byte, error) {
	if k.File == nil {
		return []byte("-1"), nil
	}
	raw, err := k.SyscallConn() // Fd would have it block
	if err != nil {
		return nil, err
	}
	var text []byte
	var failed error
	err = raw.Control(func(fd uintptr) {
		text = strconv.AppendUint(nil, uint64(fd), 10)
		_, failed = unix.FcntlInt(fd, unix.F_SETFD, 0)
	})
	return text, errors.Join(err, failed)
}

// GobDecode opens the inherited file, which no child gets.
func (k *kept) GobDecode(text []byte) error {
	fd, err := strconv.Atoi(string(text))
	switch {
	case err != nil || fd < 0:
	case fd <= 2:
		k.File = []*os.File{os.Stdin, os.Stdout, os.Stderr}[fd]
	default:
		unix.CloseOnExec(fd)
		k.File = os.NewFile(uintptr(fd), "inherited")
	}
	return err
}

// confine executes this program in its own place, as the confined second half of the run. It returns only an error, or nil where the kernel
// has no Landlock: then the run goes on as it is. Landlock holds for a thread and what it begins, so that a process of several
// threads can be confined by execve alone. The thread is the nursery's: execve ends all others, and with them their children.
func (r *run) confine() error {
	if _, err := landlock.Version(); err != nil {
		return nil
	}
	r.Streams, r.TTY = [3]kept{{r.streams.Stdin}, {r.streams.Stdout}, {r.streams.Stderr}}, r.streams.TTY
	// In memory, because secrets are not for arguments; as gob, because arguments of the guest's need not be text.
	var text bytes.Buffer
	if err := gob.NewEncoder(&text).Encode(r.prepared); err != nil {
		return fmt.Errorf("hand the run over: %w", err)
	}
	f, err := memoryFile(text.Bytes())
	if err != nil {
		return fmt.Errorf("hand the run over: %w", err)
	}
	defer f.Close()
	number, err := kept{f}.GobEncode()
	if err != nil {
		return fmt.Errorf("hand the run over: %w", err)
	}
	// The runtime would ask /proc how many processors it may use, in vain.
	env := append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", runtime.GOMAXPROCS(0)))
	return r.nursery.do(func() error {
		return landlock.Exec(supervisorRules(&r.prepared), ownPath(), []string{selfName, wordConfined, string(number)}, env)
	})
}

// Supervise is the body of the hidden command __supervise: the second half of the run that Run began in this process. Its one argument is the number of
// the descriptor that the run is read from.
func Supervise(ctx context.Context) (Status, error) {
	r, err := takeOver(os.Args[2:])
	if err != nil {
		return StatusFailed, fmt.Errorf("%s: %w", wordConfined, err)
	}
	return r.supervise(ctx)
}

func takeOver(args []string) (*run, error) {
	if len(args) != 1 {
		return nil, errors.New("one argument, the number of a descriptor, is needed")
	}
	var f kept
	if err := f.GobDecode([]byte(args[0])); err != nil {
		return nil, err
	}
	defer f.Close()
	var p prepared
	if err := gob.NewDecoder(f).Decode(&p); err != nil {
		return nil, err
	}
	r := newRun(p.Plan, IO{Stdin: p.Streams[0].File, Stdout: p.Streams[1].File, Stderr: p.Streams[2].File, TTY: p.TTY})
	r.prepared = p
	return r, nil
}

// memoryFile gives a file without a name that holds p, to be read from its beginning.
func memoryFile(p []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("mica", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "memory")
	if _, err := f.Write(p); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
