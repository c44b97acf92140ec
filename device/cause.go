package device

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// causes, first match wins. Hints are for the person in the hall, who may know
// nothing of the system below.
var causes = []struct {
	is         func(error) bool
	code, hint string
}{
	{is(ErrGarbled), "garbled", "something answers, but not as this kind of device does: check the baud rate, the wiring and that the line's url names the right port"},
	{is(ErrSilent), "silent", "the port is open but nothing answers: check power, cable, wiring and the baud rate"},
	{is(net.ErrClosed, os.ErrClosed, io.ErrClosedPipe, context.Canceled), "closed", ""},
	{is(syscall.EADDRINUSE), "busy", "another program listens on this address, perhaps a second hallagent: close it or choose another port"},
	{is(syscall.EADDRNOTAVAIL), "no_address", "this machine has no such address: write one of its own, as `ip address` shows them"},
	{is(syscall.EBUSY), "busy", "another program holds the port, often the vendor's own tool or a second hallagent: close it"},
	{is(fs.ErrPermission), "permission", "the user of hallagent may not open the port: add it to the group dialout (usermod -aG dialout USER) and restart"},
	{is(fs.ErrNotExist), "missing", "no such port: plug the device in, or write the name that `hallagent devices` shows"},
	{is(syscall.ENOTTY), "not_serial", "this file is not a serial port: write the name that `hallagent devices` shows"},
	{is(syscall.ENODEV, syscall.ENXIO, syscall.EIO), "unplugged", "the device went away: plug it in again; if it happens often, change cable or hub"},
	{isDNS, "unreachable", "the host name is not known to DNS: check the spelling or write the IP address"},
	{is(syscall.ECONNREFUSED), "refused", "the host is there but the port is not open: check the port number and the mode of the device server"},
	{is(syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN), "unreachable", "no way to this host: check address, cable and switch"},
	{is(syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, io.EOF, io.ErrUnexpectedEOF), "closed", "the other side closed the line: perhaps it allows one connection only and another program took it"},
	{isTimeout, "timeout", "no answer in time: check that the device is on and the address is right"},
}

// Cause classifies an error of opening or using a line: a stable code for
// machines and a hint for the operator, which may be empty. A nil error has
// neither; what is not known is "io".
func Cause(err error) (code, hint string) {
	if err == nil {
		return "", ""
	}
	for _, c := range causes {
		if c.is(err) {
			return c.code, c.hint
		}
	}
	return "io", ""
}

func is(targets ...error) func(error) bool {
	return func(err error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
}

func isDNS(err error) bool {
	var d *net.DNSError
	return errors.As(err, &d) && d.IsNotFound
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}
