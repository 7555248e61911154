package launcher

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/fusefs"
	"github.com/micavm/mica/fusefs/vhostuser"
	"github.com/micavm/mica/launcher/landlock"
	"github.com/micavm/mica/launcher/vmm"
)

// frontEnds are a guest's connections to its shares, over whichever transport.
type frontEnds struct {
	dir     string // for sockets and private mounts
	nursery *nursery
	janitor *janitor
	debug   bool
	log     *boundedLog

	serving sync.WaitGroup
	failed  chan error // the first failure of one that serves
	daemons []*child
}

// sharesQueues is the number of request queues of each vhost-user share.
const sharesQueues = 1

// prepare makes the front ends that exist before the monitor: sockets that it connects to. The shares of libkrun are folders, which are
// mounted by the monitor's own process: mounts says where and how.
func (f *frontEnds) prepare(ctx context.Context, transport string, shares []share) (devices []vmm.Share, mounts []fuseMount, err error) {
	var daemon virtiofsd
	if transport == transportVirtiofsd {
		if daemon, err = findVirtiofsd(); err != nil {
			return nil, nil, err
		}
	}
	for i, s := range shares {
		device := vmm.Share{Tag: s.mount.Tag}
		switch transport {
		case transportKrun:
			device.Folder = f.folder(i)
			mounts = append(mounts, f.privateMount(i, s))
		case transportVhostUser:
			device.Queues = sharesQueues
			device.Socket, err = f.serveVhostUser(ctx, i, s)
		case transportVirtiofsd:
			device.Socket, err = f.startVirtiofsd(daemon, i, s)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("serve %s: %w", s.mount.Path, err)
		}
		devices = append(devices, device)
	}
	return devices, mounts, nil
}

func (f *frontEnds) folder(i int) string { return filepath.Join(f.dir, "m"+strconv.Itoa(i)) }

// privateMount is a mount in the namespace of the child that serves it to the guest. The guest's kernel checks permissions; the child acts
// for any of the guest's users.
func (f *frontEnds) privateMount(i int, s share) fuseMount {
	return fuseMount{Dir: f.folder(i), Source: "mica", ReadOnly: s.mount.ReadOnly, AllowOther: true}
}

func (f *frontEnds) listen(i int) (*net.UnixListener, string, error) {
	path, err := socketPath(f.dir, "s"+strconv.Itoa(i))
	if err != nil {
		return nil, "", err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	return l, path, err
}

// listenFile is listen for a child: a descriptor that blocks.
func (f *frontEnds) listenFile(i int) (*os.File, string, error) {
	l, path, err := f.listen(i)
	if err != nil {
		return nil, "", err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	listener, err := l.File()
	if err != nil {
		return nil, "", err
	}
	return listener, path, unix.SetNonblock(int(listener.Fd()), false)
}

// serveVhostUser serves a share in this process.
func (f *frontEnds) serveVhostUser(ctx context.Context, i int, s share) (string, error) {
	l, path, err := f.listen(i)
	if err != nil {
		return "", err
	}
	connection := s.fs.Connect(fusefs.ConnectOptions{ReadOnly: s.mount.ReadOnly, Guest: true})
	options := vhostuser.Options{Mount: fusefs.ServerOptions(f.debug), Queues: sharesQueues, Log: f.logf}
	f.serving.Go(func() {
		defer l.Close()
		defer connection.Close()
		if err := vhostuser.Serve(ctx, l, connection, options); err != nil && ctx.Err() == nil {
			f.fail(fmt.Errorf("serve %s: %w", s.mount.Path, err))
		}
	})
	return path, nil
}

// startVirtiofsd has a virtiofsd serve a private mount of the share. It is given the listening socket, so that there is nothing to wait for.
func (f *frontEnds) startVirtiofsd(v virtiofsd, i int, s share) (string, error) {
	listener, path, err := f.listenFile(i)
	if err != nil {
		return "", err
	}
	defer listener.Close()
	rules := v.rules(f.folder(i))
	c, err := f.startChild(v.command(f.folder(i), listener), []fuseMount{f.privateMount(i, s)}, []share{s}, rules)
	if err != nil {
		return "", err
	}
	f.daemons = append(f.daemons, c)
	return path, nil
}

// startChild starts a program over private mounts of shares, and serves those.
func (f *frontEnds) startChild(command vmm.Command, mounts []fuseMount, shares []share, rules landlock.Rules) (*child, error) {
	out, _, err := f.log.pump()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	st, err := f.nursery.startStage(command, mounts, rules, out)
	if err != nil {
		return nil, err
	}
	if err := f.bringUp(st, mounts, shares); err != nil {
		st.abandon()
		return nil, err
	}
	return st.child, nil
}

func (f *frontEnds) bringUp(st *stage, mounts []fuseMount, shares []share) error {
	if p, err := findProcess(st.cmd.Process.Pid); err == nil {
		if err := f.janitor.tell(order{Kill: &p}); err != nil {
			return err
		}
	}
	for i := range mounts {
		if err := f.serveMount(st, mounts[i], shares[i]); err != nil {
			return err
		}
	}
	return st.proceed()
}

// serveMount serves the next mount of a stage until its process, and with it the mount, has ended.
func (f *frontEnds) serveMount(st *stage, m fuseMount, s share) error {
	dev, err := st.device()
	if err != nil {
		return err
	}
	mounted, err := fusefs.ServeDevice(s.fs, dev, fusefs.MountOptions{
		ReadOnly: m.ReadOnly, AllowOther: m.AllowOther, Guest: true, Debug: f.debug, Source: m.Source,
	})
	if err != nil {
		dev.Close()
		return fmt.Errorf("serve FUSE mount: %w", err)
	}
	f.serving.Go(func() {
		if err := mounted.Wait(); err != nil {
			f.fail(fmt.Errorf("serve %s: %w", s.mount.Path, err))
		}
	})
	return nil
}

func (f *frontEnds) fail(err error) {
	select {
	case f.failed <- err:
	default: // there is one already
	}
}

func (f *frontEnds) logf(format string, args ...any) { fmt.Fprintf(f.log, format+"\n", args...) }

// closeWait is how long a front end may take to end after its guest has.
const closeWait = 5 * time.Second

// close waits until nothing is served any more; the monitor has ended. virtiofsd ends with its connection, or is ended.
func (f *frontEnds) close(ctx context.Context) error {
	for _, d := range f.daemons {
		d.stop(ctx, closeWait/5, closeWait/5)
	}
	if !waitWithin(&f.serving, closeWait) {
		return fmt.Errorf("front ends did not end within %v", closeWait)
	}
	return nil
}

// waitWithin says whether all of work has ended within d.
func waitWithin(work *sync.WaitGroup, d time.Duration) bool {
	done := make(chan struct{})
	go func() { work.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// guestRootOnly says whether guest users other than root cannot create files: the process that serves the share acts for one user only.
func guestRootOnly(transport string) bool {
	return os.Geteuid() != 0 && transport != transportVhostUser
}
