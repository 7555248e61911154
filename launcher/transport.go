package launcher

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/micavm/mica/guest-init/wire"
	"github.com/micavm/mica/launcher/vmm"
)

// sharesQueues is the number of request queues of each vhost-user share.
const sharesQueues = 1

// offerShares says by which devices the guest reaches its shares, over the transport. Programs that serve them are started. The shares of
// libkrun are folders, which the monitor's own process mounts: mounts says where and how. words takes what the programs say.
func (r *run) offerShares(transport string, words *os.File) (devices []vmm.Share, mounts []fuseMount, err error) {
	var daemon virtiofsd
	if transport == transportVirtiofsd {
		if daemon, err = findVirtiofsd(); err != nil {
			return nil, nil, err
		}
	}
	for i, m := range shareMounts(r.Plan) {
		device := vmm.Share{Tag: m.Tag}
		switch transport {
		case transportKrun:
			device.Folder = shareFolder(r.Dir, i)
			mounts = append(mounts, privateMount(r.Dir, i, m))
		case transportVhostUser:
			device.Queues = sharesQueues
			device.Socket, err = shareSocket(r.Dir, i)
		case transportVirtiofsd:
			device.Socket, err = r.startVirtiofsd(daemon, i, m, words)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("serve %s: %w", m.Path, err)
		}
		devices = append(devices, device)
	}
	return devices, mounts, nil
}

// startVirtiofsd has a virtiofsd serve a private mount of the share. It is given the listening socket, so that there is nothing to wait for.
func (r *run) startVirtiofsd(v virtiofsd, i int, m wire.Mount, words *os.File) (socket string, err error) {
	listener, socket, err := listenFile(r.Dir, i)
	if err != nil {
		return "", err
	}
	defer listener.Close()
	dir := shareFolder(r.Dir, i)
	st, err := r.startStage(v.command(dir, listener), []fuseMount{privateMount(r.Dir, i, m)}, v.rules(dir), words)
	if err != nil {
		return "", err
	}
	st.First = i
	r.Daemons = append(r.Daemons, st)
	return socket, nil
}

// shareFolder is where a child mounts the share for itself.
func shareFolder(dir string, i int) string { return filepath.Join(dir, "m"+strconv.Itoa(i)) }

// shareSocket is where a vhost-user backend of the share listens.
func shareSocket(dir string, i int) (string, error) { return socketPath(dir, "s"+strconv.Itoa(i)) }

// privateMount is a mount in the namespace of the child that serves it to the guest. The guest's kernel checks permissions; the child acts
// for any of the guest's users.
func privateMount(dir string, i int, m wire.Mount) fuseMount {
	return fuseMount{Dir: shareFolder(dir, i), Source: "mica", ReadOnly: m.ReadOnly, AllowOther: true}
}

func listen(dir string, i int) (*net.UnixListener, string, error) {
	path, err := shareSocket(dir, i)
	if err != nil {
		return nil, "", err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	return l, path, err
}

// listenFile is listen for a child: a descriptor that blocks.
func listenFile(dir string, i int) (*os.File, string, error) {
	l, path, err := listen(dir, i)
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

// guestRootOnly says whether guest users other than root cannot create files: the process that serves the share acts for one user only.
func guestRootOnly(transport string) bool {
	return os.Geteuid() != 0 && transport != transportVhostUser
}
