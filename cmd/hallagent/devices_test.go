package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
	"github.com/hallagent/hallagent/deploy"
	"github.com/hallagent/hallagent/device/serial"
)

// list makes ports as devices sees them beside a configuration.
func list(cfg config.Config, found ...serial.Port) (all []listed) {
	for _, p := range found {
		all = append(all, listed{p, p.URL(), usedBy(p, cfg)})
	}
	return all
}

// somePorts are a reader of the sample, two adapters it does not name and a port
// of the board.
var somePorts = []serial.Port{
	{Name: "/dev/serial/by-id/usb-reader-05", Path: "/dev/ttyUSB3", VendorID: "0403", ProductID: "6001", Manufacturer: "FTDI", Product: "UART", Serial: "A1",
		Holders: []serial.Holder{{PID: 41, Program: "hallagent", Locked: true}, {PID: 42, Program: "vendor-tool"}}},
	{Name: `/dev/serial/by-id/usb-odd name"?#%-if00`, Path: "/dev/ttyUSB1", VendorID: "1a86", ProductID: "7523", Denied: true, Unseen: true},
	{Name: "/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0", Path: "/dev/ttyUSB2", VendorID: "1a86", ProductID: "7523", Product: "USB Serial",
		Links: []string{"/dev/serial/by-id/usb-1a86_USB_Serial-if00", "/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0"}},
	{Name: "/dev/ttyS0", Path: "/dev/ttyS0"},
}

func TestPrintPorts(t *testing.T) {
	cfg, problems := config.Parse(deploy.Sample)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	blocks := strings.Split(printPorts(list(cfg, somePorts...)), "\n\n")
	for i, want := range [][]string{
		{"/dev/serial/by-id/usb-reader-05\n", "/dev/ttyUSB3", "0403:6001, FTDI UART, ", "serial number A1", "hallagent (41), 已加锁 locked; vendor-tool (42)\n", ": 可以 / yes", "used by line window-05"},
		{"1a86:7523, ", "without a serial number", "not known, run as root", "/ no: ", "dialout"},
		{"by-path/pci-0000:00:14.0-usb-0:2:1.0\n", "other names: /dev/serial/by-id/usb-1a86_USB_Serial-if00\n", "held by: 无 / nobody"},
		{"/dev/ttyS0\n"},
	} {
		if !contains(blocks[i], want...) {
			t.Errorf("want %q in\n%s", want, blocks[i])
		}
		if i > 0 && strings.Contains(blocks[i], "used by") || i == 3 && strings.Contains(blocks[i], "USB") {
			t.Errorf("port %d:\n%s", i, blocks[i])
		}
	}
	if out := printPorts(nil); !contains(out, "There is no serial port", "dmesg", "没有找到串口") {
		t.Errorf("no ports:\n%s", out)
	}
}

// TestStanza pastes what devices offers into the sample, and checks that.
func TestStanza(t *testing.T) {
	cfg, _ := config.Parse(deploy.Sample)
	var many []serial.Port
	for n := range 12 {
		many = append(many, serial.Port{Name: fmt.Sprintf("/dev/serial/by-id/usb-%d", n), VendorID: "0403"})
	}
	for _, tt := range []struct {
		found []serial.Port
		fresh int // readers offered
	}{
		{somePorts, 2}, {somePorts[3:], 1}, {many, 12}, {[]serial.Port{{Name: "COM7", VendorID: "1a86"}}, 1}, {somePorts[:1], 0}, {nil, 0},
	} {
		text := stanza(list(cfg, tt.found...), cfg)
		if tt.fresh == 0 {
			if text != "" {
				t.Errorf("nothing to offer:\n%s", text)
			}
			continue
		}
		head, rest, ok := strings.Cut(text, "lines:\n")
		lines, readers, ok2 := strings.Cut(rest, "readers:\n")
		if !ok || !ok2 || !strings.Contains(head, "# ") {
			t.Fatalf("stanza:\n%s", text)
		}
		pasted := strings.Replace(string(deploy.Sample), "\nlines:\n", "\nlines:\n"+lines, 1)
		pasted = strings.Replace(pasted, "\nreaders:\n", "\nreaders:\n"+readers, 1)
		file := filepath.Join(t.TempDir(), "hallagent.yaml")
		if err := os.WriteFile(file, []byte(pasted), 0o600); err != nil {
			t.Fatal(err)
		}
		out, errs, code := command(t, "check", "--config", file)
		if code != 0 || !contains(out, "0 errors, 0 warnings") {
			t.Errorf("check of the sample with\n%s\nexits with %d\n%s%s", text, code, out, errs)
		}
		again, _ := config.Parse([]byte(pasted))
		if n := len(again.Readers) - len(cfg.Readers); n != tt.fresh {
			t.Errorf("%d readers, want %d:\n%s", n, tt.fresh, text)
		}
		for _, l := range again.Lines[:tt.fresh] {
			named := 0
			for _, p := range list(again, tt.found...) {
				if p.UsedBy == l.ID {
					named++
				}
			}
			if named != 1 {
				t.Errorf("line %s names %d of the ports", l.ID, named)
			}
		}
	}
}

func TestDevices(t *testing.T) {
	_, problem := serial.Ports()
	for _, file := range []string{sample, filepath.Join(t.TempDir(), "none.yaml"), t.TempDir()} {
		out, errs, code := command(t, "devices", "--config", file)
		if problem != nil { // a machine without sysfs
			if code != 1 || out != "" {
				t.Errorf("devices exits with %d\n%s%s", code, out, errs)
			}
			continue
		}
		if fi, err := os.Stat(file); code != 0 || out == "" || (errs != "") != (err == nil && fi.IsDir()) {
			t.Errorf("devices --config %s exits with %d\n%s%s", file, code, out, errs)
		}
		out, _, code = command(t, "devices", "--json", "--config", file)
		var report struct {
			Ports *[]struct {
				Name, Path, URL string
				Unseen, Denied  *bool
			}
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 || report.Ports == nil {
			t.Fatalf("devices --json exits with %d, %v\n%s", code, err, out)
		}
		for _, p := range *report.Ports {
			if p.Name == "" || p.Path == "" || !strings.HasPrefix(p.URL, "serial://") || p.Unseen == nil || p.Denied == nil {
				t.Errorf("port %+v", p)
			}
		}
	}
	full := errors.New("disk is full")
	err := devicesCommand{}.Run(t.Context(), &commands{}, streams{out: writerFunc(func([]byte) (int, error) { return 0, full }), err: io.Discard})
	if problem == nil && !errors.Is(err, full) {
		t.Errorf("output that cannot be written: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
