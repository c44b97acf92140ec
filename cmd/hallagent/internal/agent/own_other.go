//go:build !unix

package agent

import (
	"context"
	"errors"
	"net"
	"os"
)

// lockFolder locks nothing here: the store's own lock is what keeps two agents
// apart.
func lockFolder(string) (unlock func() error, err error) {
	return func() error { return nil }, nil
}

// listenPrivate opens a local socket; who may use it is up to the rights of the
// data directory.
func listenPrivate(ctx context.Context, path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "unix", path)
}
