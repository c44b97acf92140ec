//go:build unix

package serial

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/hallagent/hallagent/device"
)

// Inputs gives the modem lines. Where the driver counts edges (TIOCGICOUNT,
// Linux only), the counts are those since it was loaded.
func (p *port) Inputs() (device.Inputs, error) {
	var in device.Inputs
	raw, err := p.file.SyscallConn()
	if err != nil {
		return in, fmt.Errorf("read modem lines of %s: %w", p.path, err)
	}
	var ioctl error
	err = raw.Control(func(fd uintptr) {
		var bits int
		if bits, ioctl = unix.IoctlGetInt(int(fd), unix.TIOCMGET); ioctl != nil {
			return
		}
		for i, bit := range [4]int{device.CTS: unix.TIOCM_CTS, device.DSR: unix.TIOCM_DSR, device.DCD: unix.TIOCM_CAR, device.RI: unix.TIOCM_RI} {
			in.Active[i] = bits&bit != 0
		}
		in.Edges, in.Counted = edges(int(fd))
	})
	if err == nil {
		err = ioctl
	}
	if err != nil {
		return in, p.gone("read modem lines of", err)
	}
	return in, nil
}
