//go:build unix

package serial

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"

	"github.com/hallagent/hallagent/device"
)

// port is a tty opened twice: file carries the bytes and the lock, settings the
// library's view of it.
type port struct {
	path string
	file *os.File

	mu       sync.Mutex // guards settings against use after Close
	settings serial.Port
	mode     serial.Mode
	closed   bool
}

func open(a device.Address, m *serial.Mode) (device.Conn, error) {
	f, err := os.OpenFile(a.Path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err // names the path
	}
	if err := claim(f); err != nil {
		f.Close()
		return nil, err
	}
	s, err := configure(a, m)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &port{path: a.Path, file: f, settings: s, mode: *m}, nil
}

// claim makes sure that f is a tty that no other process has locked, and locks
// it for as long as f is open.
func claim(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ttyErr, lockErr error
	err = raw.Control(func(fd uintptr) {
		_, ttyErr = unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ)
		lockErr = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB)
	})
	switch {
	case err != nil:
		return err
	case ttyErr != nil:
		return fmt.Errorf("open %s: %w", f.Name(), ttyErr)
	case errors.Is(lockErr, unix.EWOULDBLOCK):
		return fmt.Errorf("lock %s: another process uses it: %w", f.Name(), syscall.EBUSY)
	case lockErr != nil:
		return fmt.Errorf("lock %s: %w", f.Name(), lockErr)
	}
	return nil
}

func (p *port) Read(b []byte) (int, error) {
	n, err := p.file.Read(b)
	return n, p.gone("read", err)
}

func (p *port) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// The rest of a request must not reach a device that wakes up later.
		_ = p.with(serial.Port.ResetOutputBuffer)
	}
	return n, p.gone("write", err)
}

// gone tells an adapter that was pulled out from a line that we closed: the
// system reports the former as the end of the file or an I/O error.
func (p *port) gone(op string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENXIO) {
		return fmt.Errorf("%s %s: %w", op, p.path, syscall.ENODEV)
	}
	return err
}

func (p *port) SetReadDeadline(t time.Time) error  { return p.file.SetReadDeadline(t) }
func (p *port) SetWriteDeadline(t time.Time) error { return p.file.SetWriteDeadline(t) }

// ResetInput drops what has arrived and was not read.
func (p *port) ResetInput() error {
	return p.gone("flush", p.with(serial.Port.ResetInputBuffer))
}

// SetRate changes the rate at once, in bits per second.
func (p *port) SetRate(baud int) error {
	return p.gone("set rate of", p.with(func(s serial.Port) error {
		p.mode.BaudRate = baud
		return plain(s.SetMode(&p.mode))
	}))
}

// with calls f on the settings port unless it is closed: its descriptor may
// belong to another file by then.
func (p *port) with(f func(serial.Port) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("%s: %w", p.path, os.ErrClosed)
	}
	return f(p.settings)
}

// Close ends calls that block and frees the port. Bytes not yet sent are
// dropped: a tty that cannot send them would hold up the close for half a
// minute.
func (p *port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	_ = p.settings.ResetOutputBuffer() // fails on a port that is gone, which is no news here
	return errors.Join(p.settings.Close(), p.file.Close())
}
