package serial

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"go.bug.st/serial"

	"github.com/hallagent/hallagent/device"
)

// readSlice is how long the library may sit in one read: long enough to be
// cheap, short enough for Close to wait for.
const readSlice = 100 * time.Millisecond

// port gives the library's port deadlines and an orderly end.
type port struct {
	path string
	lib  serial.Port
	mode serial.Mode

	reading, writing sync.Mutex // held while the library is in such a call
	mu               sync.Mutex
	readBy, writeBy  time.Time
	closed           chan struct{}
	shut             func() error
}

func open(a device.Address, m *serial.Mode) (device.Conn, error) {
	lib, err := configure(a, m)
	if err != nil {
		return nil, err
	}
	p := &port{path: a.Path, lib: lib, mode: *m, closed: make(chan struct{})}
	p.shut = sync.OnceValue(p.close)
	return p, nil
}

func (p *port) Read(b []byte) (int, error) {
	p.reading.Lock()
	defer p.reading.Unlock()
	for {
		if p.isClosed() {
			return 0, p.err("read", os.ErrClosed)
		}
		slice := readSlice
		if by := p.deadline(&p.readBy); !by.IsZero() {
			slice = min(slice, time.Until(by))
		}
		if slice <= 0 {
			return 0, p.err("read", os.ErrDeadlineExceeded)
		}
		if err := p.lib.SetReadTimeout(max(slice, time.Millisecond)); err != nil {
			return 0, p.err("read", err)
		}
		n, err := p.lib.Read(b)
		if n > 0 || len(b) == 0 {
			return n, nil
		}
		if err != nil && !p.isClosed() {
			return 0, p.err("read", syscall.ENODEV)
		}
	}
}

// SetRate changes the rate at once, in bits per second. The library closes a port
// that does not take it.
func (p *port) SetRate(baud int) error {
	return p.with("set rate of", func() error {
		p.mode.BaudRate = baud
		return p.lib.SetMode(&p.mode)
	})
}

// with calls f unless the port is closed, whose handle may be another's by then.
func (p *port) with(op string, f func() error) error {
	p.reading.Lock()
	defer p.reading.Unlock()
	if p.isClosed() {
		return p.err(op, os.ErrClosed)
	}
	if err := f(); err != nil {
		return p.err(op, err)
	}
	return nil
}

// Write waits for the library's write in any case: when the deadline passes or
// the port is closed, purging the output makes it return.
func (p *port) Write(b []byte) (int, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	if p.isClosed() {
		return 0, p.err("write", os.ErrClosed)
	}
	var expired <-chan time.Time
	if by := p.deadline(&p.writeBy); !by.IsZero() {
		t := time.NewTimer(time.Until(by))
		defer t.Stop()
		expired = t.C
	}
	var n int
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		n, err = p.lib.Write(b)
	}()
	var why error
	select {
	case <-done:
	case <-expired:
		why = os.ErrDeadlineExceeded
	case <-p.closed:
		why = os.ErrClosed
	}
	for why != nil { // a purge that comes before the write has begun frees nothing
		_ = p.lib.ResetOutputBuffer()
		select {
		case <-done:
			return n, p.err("write", why)
		case <-time.After(readSlice):
		}
	}
	if err != nil {
		return n, p.err("write", syscall.ENODEV)
	}
	return n, nil
}

func (p *port) SetReadDeadline(t time.Time) error  { return p.setDeadline(&p.readBy, t) }
func (p *port) SetWriteDeadline(t time.Time) error { return p.setDeadline(&p.writeBy, t) }

// ResetInput drops what has arrived and was not read.
func (p *port) ResetInput() error { return p.with("flush", p.lib.ResetInputBuffer) }

func (p *port) Close() error { return p.shut() }

func (p *port) close() error {
	close(p.closed)
	p.reading.Lock()
	defer p.reading.Unlock()
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.lib.Close()
}

func (p *port) isClosed() bool {
	select {
	case <-p.closed:
		return true
	default:
		return false
	}
}

func (p *port) deadline(of *time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *of
}

func (p *port) setDeadline(of *time.Time, t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	*of = t
	return nil
}

func (p *port) err(op string, err error) error {
	return fmt.Errorf("%s %s: %w", op, p.path, err)
}

// Inputs gives the modem lines; Windows counts no edges.
func (p *port) Inputs() (in device.Inputs, err error) {
	err = p.with("read modem lines of", func() error {
		bits, err := p.lib.GetModemStatusBits()
		if err != nil {
			return fmt.Errorf("%w (%v)", syscall.ENODEV, err) // an open port has them: the adapter is gone
		}
		in.Active = [4]bool{device.CTS: bits.CTS, device.DSR: bits.DSR, device.DCD: bits.DCD, device.RI: bits.RI}
		return nil
	})
	return in, err
}
