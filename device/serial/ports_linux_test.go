package serial

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hallagent/hallagent/device"
)

// tree makes files (with content) and links (with a leading ->) below a root.
func tree(t *testing.T, files map[string]string) string {
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		var err error
		if len(content) > 2 && content[:2] == "->" {
			err = os.Symlink(content[2:], path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestPorts(t *testing.T) {
	root := tree(t, map[string]string{
		"sys/devices/usb1/1-1/idVendor":                  "0403\n",
		"sys/devices/usb1/1-1/idProduct":                 "6001\n",
		"sys/devices/usb1/1-1/serial":                    "A1\n",
		"sys/devices/usb1/1-1/manufacturer":              "FTDI\n",
		"sys/devices/usb1/1-1/product":                   "UART\n",
		"sys/devices/usb1/1-1/1-1:1.0/ttyUSB0/driver":    "->../../../../../bus/usb-serial/drivers/ftdi_sio",
		"sys/devices/usb1/1-2/idVendor":                  "1a86\n",
		"sys/devices/usb1/1-2/product":                   "USB\x1b[2JSerial\n",
		"sys/devices/usb1/1-2/1-2:1.0/ttyCH343USB0/x":    "",
		"sys/devices/platform/serial8250/x":              "",
		"sys/class/tty/ttyUSB0/device":                   "->../../../devices/usb1/1-1/1-1:1.0/ttyUSB0",
		"sys/class/tty/ttyCH343USB0/device":              "->../../../devices/usb1/1-2/1-2:1.0/ttyCH343USB0",
		"sys/class/tty/ttyS0/device":                     "->../../../devices/platform/serial8250",
		"sys/class/tty/ttyS0/type":                       "4\n",
		"sys/class/tty/ttyS1/device":                     "->../../../devices/platform/serial8250",
		"sys/class/tty/ttyS1/type":                       "0\n",
		"sys/class/tty/tty1/dev":                         "4:1\n",
		"sys/class/tty/ttyS2/device":                     "->../../../devices/platform/serial8250",
		"dev/ttyUSB0":                                    "->/dev/null", // what the test may hold
		"dev/ttyCH343USB0":                               "",
		"dev/ttyS0":                                      "",
		"dev/ttyS1":                                      "",
		"dev/serial/by-id/usb-FTDI_UART_A1-if00-port0":   "->../../ttyUSB0",
		"dev/serial/by-id/usb-1a86_USB_Serial-if00":      "->../../ttyCH343USB0",
		"dev/serial/by-path/pci-0000:00:14.0-usb-0:1:10": "->../../ttyUSB0",
		"dev/serial/by-path/pci-0000:00:14.0-usb-0:2:10": "->../../ttyCH343USB0",
	})
	found, err := ports(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []Port{
		{Name: "/dev/serial/by-id/usb-FTDI_UART_A1-if00-port0", Path: "/dev/ttyUSB0", Product: "UART",
			VendorID: "0403", ProductID: "6001", Serial: "A1", Manufacturer: "FTDI", Driver: "ftdi_sio"},
		{Name: "/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:10", Path: "/dev/ttyCH343USB0", Product: "USB?[2JSerial", VendorID: "1a86"},
		{Name: "/dev/ttyS0", Path: "/dev/ttyS0"},
	}
	if len(found) != len(want) {
		t.Fatalf("found %+v", found)
	}
	for i, w := range want {
		g := found[i]
		if (len(g.Links) == 2) != (g.Product != "") {
			t.Errorf("links of port %d are %q", i, g.Links)
		}
		for _, name := range append(g.Links, g.Path, g.Name) {
			if !g.Is(name) || found[(i+1)%len(found)].Is(name) {
				t.Errorf("%s is not port %d, or also another", name, i)
			}
		}
		g.Links, w.Unseen = nil, true // there is no /proc
		if !reflect.DeepEqual(g, w) {
			t.Errorf("port %d is %+v, want %+v", i, g, w)
		}
		if a, err := device.ParseAddress(g.URL()); err != nil || a.Path != g.Name {
			t.Errorf("%s parses as %+v, %v", g.URL(), a, err)
		}
	}
	if u := (Port{Name: "COM7"}).URL(); u != "serial://COM7" {
		t.Error(u)
	}
	if _, err := ports(filepath.Join(root, "none")); err == nil {
		t.Error("a machine without sysfs lists ports")
	}
}

// Whoever has the device open holds the port, under whatever name.
func TestHolders(t *testing.T) {
	null, err := os.Stat("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	st := null.Sys().(*syscall.Stat_t)
	files := map[string]string{
		"sys/devices/pci/x":            "",
		"sys/class/tty/ttyUSB0/device": "->../../../devices/pci",
		"sys/class/tty/ttyUSB1/device": "->../../../devices/pci",
		"sys/class/tty/ttyS0/device":   "->../../../devices/pci",
		"dev/ttyUSB0":                  "->/dev/null",
		"dev/ttyUSB1":                  "->/dev/zero",
		"dev/ttyS0":                    "",
		"dev/my-reader":                "->ttyUSB0",
		"proc/1/fd/x":                  "",
		"proc/42/comm":                 "vendor-tool\n",
		"proc/42/fd/0":                 "->socket:[1]",
		"proc/42/fd/4":                 "->/dev/null",
		"proc/7/comm":                  "hallagent\n",
		"proc/7/fd/9":                  "->/dev/null",
		"proc/8/comm":                  "idle\n",
		"proc/8/fd/1":                  "->/dev/full",
		"proc/9/comm":                  "gone\n",
		"proc/self/fd/3":               "->/dev/null",
		"proc/locks": fmt.Sprintf("1: POSIX  ADVISORY  WRITE 42 00:00:1 0 EOF\n2: FLOCK  ADVISORY  WRITE 7 %02x:%02x:%d 0 EOF\n",
			unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino),
	}
	root := tree(t, files)
	if err := os.Symlink(filepath.Join(root, "dev/my-reader"), filepath.Join(root, "proc/42/fd/3")); err != nil {
		t.Fatal(err)
	}
	holders := func() map[string][]Holder {
		t.Helper()
		found, err := ports(root)
		if err != nil {
			t.Fatal(err)
		}
		all := map[string][]Holder{}
		for _, p := range found {
			if p.Unseen {
				all["unseen"] = nil
			}
			all[p.Path] = p.Holders
		}
		return all
	}
	want := map[string][]Holder{
		"/dev/ttyUSB0": {{PID: 7, Program: "hallagent", Locked: true}, {PID: 42, Program: "vendor-tool"}},
		"/dev/ttyUSB1": nil,
		"/dev/ttyS0":   nil,
	}
	if got := holders(); !reflect.DeepEqual(got, want) {
		t.Errorf("held by %+v, want %+v", got, want)
	}
	if err := os.RemoveAll(filepath.Join(root, "proc/1")); err != nil { // as where others are hidden
		t.Fatal(err)
	}
	want["unseen"] = nil
	if got := holders(); !reflect.DeepEqual(got, want) {
		t.Errorf("where others are hidden: %+v", got)
	}
}

// A real terminal is held by this process, and by nobody once it is closed.
func TestHoldersOfThisMachine(t *testing.T) {
	c := newCable(t)
	conn := c.dial()
	tty, err := filepath.EvalSymlinks(c.name)
	if err != nil {
		t.Fatal(err)
	}
	mine := func() (mine []Holder) {
		found := []Port{{Path: tty}}
		findHolders("/", found)
		for _, h := range found[0].Holders {
			if h.PID == os.Getpid() {
				mine = append(mine, h)
			}
		}
		return mine
	}
	if got := mine(); len(got) != 1 || got[0].Program == "" || !got[0].Locked {
		t.Errorf("held by %+v", got)
	}
	conn.Close()
	if got := mine(); len(got) != 0 {
		t.Errorf("closed, and held by %+v", got)
	}
}

func TestDenied(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ttyUSB0")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if denied(file) || denied(file+"0") {
		t.Error("one's own file is denied, or one that is not there")
	}
	if os.Geteuid() == 0 {
		t.Skip("root may open everything")
	}
	if err := os.Chmod(file, 0o400); err != nil {
		t.Fatal(err)
	}
	if !denied(file) {
		t.Error("a file that may only be read is not denied")
	}
}

func TestPortsOfThisMachine(t *testing.T) {
	found, err := Ports()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		if _, err := os.Lstat(p.Path); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
}
