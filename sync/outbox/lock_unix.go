//go:build unix

package outbox

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// lock takes the right to use the store at path, for this process alone. The
// store's own file would not do: it is replaced under those who wait for it.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path+lockName, os.O_RDWR|os.O_CREATE, 0o600)
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
		return nil, fmt.Errorf("open %s: %w: process %s", path, errLocked, strings.TrimSpace(string(holder[:n])))
	}
	// Who holds it is for people; that it is held is what counts, even on a full disk.
	if f.Truncate(0) == nil {
		fmt.Fprintln(f, os.Getpid())
	}
	return func() { f.Close() }, nil
}
