package sim

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// openPair opens a new pseudo terminal: the device's side and the host's, raw.
func openPair() (device, host *os.File, err error) {
	device, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			device.Close()
		}
	}()
	var number uint32
	err = control(device, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return fmt.Errorf("unlock pseudo terminal: %w", err)
		}
		number, err = unix.IoctlGetUint32(fd, unix.TIOCGPTN)
		if err != nil {
			return fmt.Errorf("number pseudo terminal: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	host, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	if err = control(host, makeRaw); err != nil {
		host.Close()
		return nil, nil, err
	}
	return device, host, nil
}

// makeRaw takes away echo, line editing and the translation of bytes, so that
// the first host's bytes pass unchanged even before it has set its own mode.
func makeRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("read terminal mode: %w", err)
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return fmt.Errorf("set terminal mode: %w", err)
	}
	return nil
}

// control lends out the descriptor without taking f from the runtime's poller,
// as f.Fd would: reads must stay endable by Close.
func control(f *os.File, use func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var used error
	if err := raw.Control(func(fd uintptr) { used = use(int(fd)) }); err != nil {
		return err
	}
	return used
}

// HostBaud is the rate the host has set, in bits per second; 0 where the cable
// is out or the rate is not one of the usual ones. A pseudo terminal keeps what
// its last host set, and begins with 38400.
func (p *PTY) HostBaud() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		return 0
	}
	var t *unix.Termios
	err := control(p.held, func(fd int) (err error) {
		t, err = unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	})
	if err != nil {
		return 0
	}
	return map[uint32]int{
		unix.B1200: 1200, unix.B2400: 2400, unix.B4800: 4800, unix.B9600: 9600, unix.B19200: 19200,
		unix.B38400: 38400, unix.B57600: 57600, unix.B115200: 115200, unix.B230400: 230400,
	}[t.Cflag&unix.CBAUD]
}

// nap waits for about a millisecond or less. It holds a thread meanwhile.
func (p *PTY) nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	unix.Nanosleep(&ts, nil) // a signal ends it early, and the caller looks at the clock
}
