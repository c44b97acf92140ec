package outbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// ErrLocked says that another process uses the store.
var ErrLocked = errors.New("another process holds it")

var errPanic = errors.New("bbolt gave up")

const lockName = ".lock"

// guard turns a panic into an error. bbolt panics on pages it does not
// understand, and a file that lost its end faults in the memory map.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errPanic, r)
		}
	}()
	return f()
}

// handle is an open bbolt file.
type handle struct {
	db       *bolt.DB
	file     *os.File
	pageSize int64
	stuck    atomic.Bool // a panic left bbolt's own locks taken
}

// openFile opens or makes the file at path, which may grow to limit bytes; 0 means
// as far as the disk goes.
func openFile(path string, limit int64) (*handle, error) {
	h := &handle{}
	_, err := os.Stat(path)
	created := errors.Is(err, fs.ErrNotExist)
	err = guard(func() (err error) {
		h.db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout:        2 * time.Second,
			MaxSize:        int(limit),
			FreelistType:   bolt.FreelistMapType,
			NoStatistics:   true,
			NoFreelistSync: false, // without a stored free list a store of 1 GB opens in 17 s
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				f, err := os.OpenFile(name, flag, mode)
				h.file = f
				return f, err
			},
		})
		return err
	})
	if err != nil {
		if h.file != nil {
			h.file.Close()
		}
		if errors.Is(err, berrors.ErrTimeout) {
			return nil, fmt.Errorf("open %s: %w", path, ErrLocked)
		}
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	h.db.AllocSize, h.pageSize = growth(limit), int64(h.db.Info().PageSize)
	if created {
		if err := syncDir(filepath.Dir(path)); err != nil {
			h.close()
			return nil, err
		}
	}
	return h, nil
}

// writeFile writes a small file and makes it durable.
func writeFile(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes the name of a new file survive a power cut.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // NTFS journals names itself
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// update runs f in a write transaction and commits it.
func (h *handle) update(f func(*bolt.Tx) error) error {
	if err := h.whole(); err != nil {
		return err
	}
	var tx *bolt.Tx
	err := guard(func() (err error) {
		if tx, err = h.db.Begin(true); err != nil {
			return err
		}
		if err := f(tx); err != nil {
			return err
		}
		return tx.Commit()
	})
	if err == nil {
		return nil
	}
	if tx == nil {
		h.stuck.Store(errors.Is(err, errPanic))
	} else if undo := guard(tx.Rollback); errors.Is(undo, errPanic) {
		h.stuck.Store(true)
	}
	return err
}

// view runs f in a read transaction.
func (h *handle) view(f func(*bolt.Tx) error) error {
	if err := h.whole(); err != nil {
		return err
	}
	begun := false
	err := guard(func() error {
		return h.db.View(func(tx *bolt.Tx) error {
			begun = true
			return f(tx)
		})
	})
	if !begun && errors.Is(err, errPanic) {
		h.stuck.Store(true)
	}
	return err
}

// whole tells whether bbolt may begin a transaction: it reads the heads of the
// file with its own locks taken, which a fault there would leave taken for ever.
func (h *handle) whole() error {
	info, err := h.file.Stat()
	switch {
	case h.stuck.Load():
		return fmt.Errorf("%w: it is stuck", errPanic)
	case err == nil && info.Size() < 2*h.pageSize:
		return fmt.Errorf("%w: it was cut to %d bytes", errPages, info.Size())
	}
	return nil
}

// close frees the file for the next open. After a panic that left bbolt locked
// only the descriptor is closed; the memory map stays until the process ends.
func (h *handle) close() error {
	if h.stuck.Load() {
		return h.file.Close()
	}
	return guard(h.db.Close)
}

const (
	codeDamaged = "damaged"
	codeFull    = "full"
)

// cause gives the stable code of an error and the operator's hint.
func cause(err error) (code, hint string) {
	switch {
	case errors.Is(err, errPages), errors.Is(err, errBadState), errors.Is(err, errHole), errors.Is(err, errDamaged), errors.Is(err, errPanic),
		errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return codeDamaged, "The file is damaged: it is set aside and what can be read of it is saved, see the log. Check the disk."
	case errors.Is(err, errWrongStream):
		return "wrong_stream", "The file belongs to another stream: correct the data folder, nothing was changed."
	case errors.Is(err, ErrLocked):
		return "locked", "Another process has the file open, perhaps a second hallagent or an outbox command: end it."
	case means(err, syscall.ENOSPC), means(err, syscall.EDQUOT):
		return codeFull, "The disk is full: free space on it. Records are accepted again by themselves."
	case errors.Is(err, berrors.ErrMaxSizeReached):
		return codeFull, "The store has no room for what came at once: make visits.max_size larger."
	case means(err, syscall.EROFS):
		return "readonly", "The file system is mounted read-only, often after disk errors: check the kernel's log and the disk."
	case errors.Is(err, fs.ErrPermission):
		return "permission", "The service's user may not write here: check the owner of the data folder."
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return "missing", "The data folder does not exist: create it or correct the configuration."
	}
	return "io", "The disk does not take what is written: check it and the kernel's log."
}

// means tells whether the system gave that error. When bbolt cannot grow or sync
// its file, it hands on the words alone.
func means(err error, number syscall.Errno) bool {
	return errors.Is(err, number) || err != nil && strings.Contains(err.Error(), number.Error())
}
