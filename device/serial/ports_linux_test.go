package serial

import (
	"os"
	"path/filepath"
	"testing"

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
		"sys/devices/usb1/1-1/serial":                    "A1\n",
		"sys/devices/usb1/1-1/manufacturer":              "FTDI\n",
		"sys/devices/usb1/1-1/product":                   "UART\n",
		"sys/devices/usb1/1-1/1-1:1.0/ttyUSB0/x":         "",
		"sys/devices/usb1/1-2/idVendor":                  "1a86\n",
		"sys/devices/usb1/1-2/product":                   "USB Serial\n",
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
		"dev/ttyUSB0":                                    "",
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
		{Name: "/dev/serial/by-id/usb-FTDI_UART_A1-if00-port0", Path: "/dev/ttyUSB0", Product: "FTDI UART"},
		{Name: "/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:10", Path: "/dev/ttyCH343USB0", Product: "USB Serial"},
		{Name: "/dev/ttyS0", Path: "/dev/ttyS0"},
	}
	if len(found) != len(want) {
		t.Fatalf("found %+v", found)
	}
	for i, w := range want {
		g := found[i]
		if g.Name != w.Name || g.Path != w.Path || g.Product != w.Product || (len(g.Links) == 2) != (g.Product != "") {
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
