//go:build unix

package outbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// lock takes the right to use the store at path, for this process alone. The
// store's own file would not do: it is replaced under those who wait for it.
func lock(path string) (unlock func(), err error) {
	return lockWith(path, os.O_CREATE)
}

// lockToRead does the same for a command, which may be another user's and leaves
// no file behind: a store that was never locked is in nobody's hands.
func lockToRead(path string) (unlock func(), err error) {
	unlock, err = lockWith(path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	return unlock, err
}

func lockWith(path string, flag int) (unlock func(), err error) {
	f, err := os.OpenFile(path+lockName, os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		holder := make([]byte, 20)
		n, _ := f.Read(holder) // whoever holds it may not have written yet
		return nil, fmt.Errorf("open %s: %w: process %s", path, ErrLocked, strings.TrimSpace(string(holder[:n])))
	}
	// Who holds it is for people; that it is held is what counts, even on a full disk.
	if flag != 0 && f.Truncate(0) == nil {
		fmt.Fprintln(f, os.Getpid())
	}
	return func() { f.Close() }, nil
}

// owned tells whether a file is this user's: one that another user writes anew
// would not be the agent's any more.
func owned(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return true // of that, opening it tells more
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(s.Uid) == os.Geteuid()
}
