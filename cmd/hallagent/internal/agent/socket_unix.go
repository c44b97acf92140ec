//go:build unix

package agent

import (
	"context"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

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
