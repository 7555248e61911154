package fusefs

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ext4 keeps under 4 KiB of attributes for a file. A value that the filesystem has no room for is a file of largeFolder in
// the work folder, and largePrefix with the attribute's name holds that file's name: 16 bytes in hexadecimal.
const (
	largePrefix = "user.mica-large."
	largeFolder = "mica-xattr"
)

func (u *upper) getXattr(s spot, host string) ([]byte, error) {
	value, err := s.getxattr(host)
	if err != unix.ENODATA || !u.hasLarge.Load() {
		return value, err
	}
	id, err := s.getxattr(largePrefix + host)
	if err != nil {
		return nil, err
	}
	return u.readLarge(string(id))
}

func (u *upper) setXattr(s spot, host string, value []byte, flags int) error {
	large := ""
	if u.hasLarge.Load() {
		if id, err := s.getxattr(largePrefix + host); err == nil {
			large = string(id)
		}
	}
	switch {
	case large != "" && flags&unix.XATTR_CREATE != 0:
		return unix.EEXIST
	case large != "":
		flags &^= unix.XATTR_REPLACE
	}
	err := s.setxattr(host, value, flags)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ERANGE) {
		err = u.setLarge(s, host, value)
	} else if err == nil && large != "" {
		err = s.removexattr(largePrefix + host)
	}
	if err == nil && large != "" {
		u.removeLarge(large)
	}
	return err
}

func (u *upper) setLarge(s spot, host string, value []byte) error {
	if u.large == nil || len(largePrefix)+len(host) > 255 {
		return unix.ENOSPC
	}
	id, err := u.writeLarge(value)
	if err != nil {
		return err
	}
	u.hasLarge.Store(true)
	if err := s.setxattr(largePrefix+host, []byte(id), 0); err != nil {
		u.removeLarge(id)
		return err
	}
	if err := s.removexattr(host); err != nil && !isNoXattr(err) {
		return err
	}
	return nil
}

func (u *upper) removeXattr(s spot, host string) error {
	if u.hasLarge.Load() {
		if id, err := s.getxattr(largePrefix + host); err == nil {
			if err := s.removexattr(largePrefix + host); err != nil {
				return err
			}
			u.removeLarge(string(id))
			return nil
		}
	}
	return s.removexattr(host)
}

// dropLarge removes the large values of a file that nobody can reach any more.
func (u *upper) dropLarge(s spot) {
	if !u.hasLarge.Load() {
		return
	}
	list, err := s.listxattr()
	if err != nil {
		return
	}
	for name := range xattrNames(list) {
		if len(name) <= len(largePrefix) || name[:len(largePrefix)] != largePrefix {
			continue
		}
		if id, err := s.getxattr(name); err == nil {
			u.removeLarge(string(id))
		}
	}
}

func (u *upper) writeLarge(value []byte) (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	id := hex.EncodeToString(b[:])
	fd, err := openBeneath(u.large.fd, id, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), id)
	_, err = f.Write(value)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		u.removeLarge(id)
		return "", err
	}
	return id, nil
}

func (u *upper) readLarge(id string) ([]byte, error) {
	if !isLargeID(id) || u.large == nil {
		return nil, unix.ENODATA
	}
	fd, err := openRegular(u.large.fd, id, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), id)
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxXattr))
}

func (u *upper) removeLarge(id string) {
	if isLargeID(id) && u.large != nil {
		_ = unix.Unlinkat(u.large.fd, id, 0)
	}
}

func isLargeID(id string) bool {
	b, err := hex.DecodeString(id)
	return err == nil && len(b) == 16
}
