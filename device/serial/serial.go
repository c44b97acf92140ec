// Package serial opens a tty as a device.Conn.
//
// go.bug.st/serial sets the port up; bytes do not go through it on Unix, since
// its reads end in (0, nil), its writes know no deadline and its Close pulls the
// descriptor from under a waiting reader. A second, non-blocking descriptor of
// the same tty in Go's poller has none of this: deadlines and Close work as on a
// socket, and no call is left behind in the kernel. The same descriptor carries
// a lock, because the exclusive mode of a tty does not bind root.
//
// The path is resolved at each dial, so a stable name (/dev/serial/by-id/…)
// finds a replugged device. An adapter that was pulled out shows as an error
// that is syscall.ENODEV, one in other hands as syscall.EBUSY; device.Cause
// knows both.
//
// Limits: what was written and not yet sent when the line is closed or a write
// passes its deadline is dropped. Programs that neither lock the tty nor use its
// exclusive mode are not noticed. Windows takes the library's own reads, in
// slices of 100 ms.
package serial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"go.bug.st/serial"

	"github.com/hallagent/hallagent/device"
)

// firstRate is what a line opens at whose rate is to be found.
const firstRate = 115200

// Dial opens the port of a serial address: 8N1 and the like as the address
// says, no flow control, raw bytes; device.SetRate changes the rate later.
// Opening raises DTR and RTS on most systems before an off in the address can
// lower them. A pulse address opens the same way; device.ReadInputs then gives
// its modem lines.
func Dial(a device.Address) device.Dial {
	return func(ctx context.Context) (device.Conn, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, err := mode(a)
		if err != nil {
			return nil, err
		}
		return open(a, m)
	}
}

func mode(a device.Address) (*serial.Mode, error) {
	parity, ok := map[string]serial.Parity{"none": serial.NoParity, "odd": serial.OddParity, "even": serial.EvenParity}[a.Parity]
	stop, ok2 := map[string]serial.StopBits{"1": serial.OneStopBit, "2": serial.TwoStopBits}[a.StopBits]
	if a.Scheme != device.SchemeSerial && a.Scheme != device.SchemePulse || !ok || !ok2 {
		return nil, fmt.Errorf("open %s: not the address of a serial port", a)
	}
	if a.AutoBaud() {
		a.Baud = firstRate
	}
	return &serial.Mode{BaudRate: a.Baud, DataBits: a.DataBits, Parity: parity, StopBits: stop}, nil
}

// configure opens the library's port and sets the modem lines that are not on.
func configure(a device.Address, m *serial.Mode) (serial.Port, error) {
	p, err := serial.Open(a.Path, m)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", a.Path, plain(err))
	}
	if !a.DTR {
		err = p.SetDTR(false)
	}
	if !a.RTS && err == nil {
		err = p.SetRTS(false)
	}
	// A pseudo terminal has no modem lines to lower.
	if err != nil && !errors.Is(err, syscall.ENOTTY) && !errors.Is(err, syscall.EINVAL) {
		p.Close()
		return nil, fmt.Errorf("set modem lines of %s: %w", a.Path, err)
	}
	return p, nil
}

// plain turns the library's error into the system's, which callers know.
func plain(err error) error {
	var e *serial.PortError
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case serial.PortBusy:
		return syscall.EBUSY
	case serial.PermissionDenied:
		return fs.ErrPermission
	case serial.PortNotFound:
		return fs.ErrNotExist
	case serial.InvalidSerialPort:
		return fmt.Errorf("%w (%v)", syscall.ENODEV, e)
	}
	return e
}
