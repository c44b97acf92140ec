//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockFolder locks the data folder for as long as the process lives, or until
// unlock. A folder that cannot be opened has no other agent in it either.
func lockFolder(path string) (unlock func() error, err error) {
	d, err := os.Open(path)
	if err != nil {
		return func() error { return nil }, nil
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		d.Close()
		return nil, fmt.Errorf("another hallagent uses %s: end it first, or give this one a data folder and a hall of its own", path)
	}
	return d.Close, nil
}

// listenPrivate opens a unix socket that only its owner can use, from the first
// moment on: the socket is made in a directory nobody else may enter and then
// moved to its place.
func listenPrivate(ctx context.Context, path string) (net.Listener, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".c")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", dir+"/s")
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err = unix.Chmod(dir+"/s", 0o600); err == nil {
		err = os.Rename(dir+"/s", path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}
