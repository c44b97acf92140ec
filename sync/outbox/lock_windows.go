package outbox

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// lock takes the right to use the store at path, for this process alone. The
// store's own file would not do: it is replaced under those who wait for it.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path+lockName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{})
	if err == nil {
		return func() { f.Close() }, nil
	}
	f.Close()
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return nil, fmt.Errorf("open %s: %w", path, ErrLocked)
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// lockToRead does the same for a command.
func lockToRead(path string) (unlock func(), err error) { return lock(path) }

// owned is for systems where a new file belongs to who made it; here it takes the
// rights of its folder.
func owned(string) bool { return true }
