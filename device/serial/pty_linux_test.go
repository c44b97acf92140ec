package serial

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hallagent/hallagent/device"
)

// cable is a pseudo terminal under a stable name: the test holds the device's
// end, Dial opens the other.
type cable struct {
	t      *testing.T
	name   string // a symlink, as udev makes
	device *os.File
}

func newCable(t *testing.T) *cable {
	c := &cable{t: t, name: filepath.Join(t.TempDir(), "usb-sample")}
	c.plug()
	t.Cleanup(func() { c.device.Close() })
	return c
}

func (c *cable) plug() {
	c.t.Helper()
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	raw, err := m.SyscallConn()
	if err != nil {
		c.t.Fatal(err)
	}
	var n int
	raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.Symlink(fmt.Sprintf("/dev/pts/%d", n), c.name); err != nil {
		c.t.Fatal(err)
	}
	c.device = m
}

func (c *cable) unplug() {
	c.t.Helper()
	if err := os.Remove(c.name); err != nil {
		c.t.Fatal(err)
	}
	if err := c.device.Close(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cable) address() device.Address {
	c.t.Helper()
	a, err := device.ParseAddress("serial://" + c.name + "?baud=115200")
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func (c *cable) dial() device.Conn {
	c.t.Helper()
	conn, err := Dial(c.address())(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	return conn
}
