package serial

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hallagent/hallagent/device"
)

// icount is struct serial_icounter_struct of linux/serial.h.
type icount struct {
	cts, dsr, rng, dcd int32
	_                  [16]int32 // bytes, errors and room of no interest here
}

// edges asks the driver how often each line changed; many drivers do not count.
func edges(fd int) (counts [4]uint32, ok bool) {
	var c icount
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGICOUNT, uintptr(unsafe.Pointer(&c))); errno != 0 {
		return counts, false
	}
	counts[device.CTS], counts[device.DSR] = uint32(c.cts), uint32(c.dsr)
	counts[device.DCD], counts[device.RI] = uint32(c.dcd), uint32(c.rng)
	return counts, true
}
