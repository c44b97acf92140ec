package serial

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// Ports lists the serial ports without opening one: opening moves the modem
// lines of whatever is connected, and hangs on some ports. Who holds one and
// whether it may be opened is read from /proc and from its permissions.
//
// Name is the link by id. An adapter without a serial number of its own shares
// its id with every other of its make, so its name is that of the socket it is
// plugged into.
func Ports() ([]Port, error) { return ports("/") }

func ports(root string) ([]Port, error) {
	class := filepath.Join(root, "sys/class/tty")
	entries, err := os.ReadDir(class)
	if err != nil {
		return nil, fmt.Errorf("list serial ports: %w", err)
	}
	byID := links(root, "by-id")
	byPath := links(root, "by-path")
	var found []Port
	for _, e := range entries {
		sys := filepath.Join(class, e.Name())
		hardware, err := filepath.EvalSymlinks(filepath.Join(sys, "device"))
		if err != nil {
			continue // a console or pseudo terminal
		}
		if read(sys, "type") == "0" {
			continue // a place for a chip that is not there
		}
		p := Port{Path: "/dev/" + e.Name(), Driver: target(hardware, "driver")}
		if _, err := os.Lstat(filepath.Join(root, p.Path)); err != nil {
			continue // the kernel's, but not this container's
		}
		unique := true
		if usb := usbDevice(hardware); usb != "" {
			p.VendorID, p.ProductID, p.Serial = read(usb, "idVendor"), read(usb, "idProduct"), read(usb, "serial")
			p.Manufacturer, p.Product = read(usb, "manufacturer"), read(usb, "product")
			unique = p.Serial != ""
		}
		p.Denied = denied(filepath.Join(root, p.Path))
		id, path := byID[e.Name()], byPath[e.Name()]
		p.Links = slices.Sorted(slices.Values(append(slices.Clone(id), path...)))
		p.Name = stableName(p.Path, id, path, unique)
		found = append(found, p)
	}
	slices.SortFunc(found, func(a, b Port) int { return strings.Compare(a.Name, b.Name) })
	findHolders(root, found)
	return found, nil
}

func stableName(device string, byID, byPath []string, unique bool) string {
	choices := append(slices.Clone(byID), byPath...)
	if !unique {
		choices = append(slices.Clone(byPath), byID...)
	}
	return append(choices, device)[0]
}

// links are the names below /dev/serial of one sort, by tty.
func links(root, sort string) map[string][]string {
	dir := filepath.Join("dev/serial", sort)
	entries, _ := os.ReadDir(filepath.Join(root, dir)) // absent without adapters
	byTTY := map[string][]string{}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(root, dir, e.Name()))
		if err == nil {
			tty := filepath.Base(target)
			byTTY[tty] = append(byTTY[tty], "/"+filepath.Join(dir, e.Name()))
		}
	}
	return byTTY
}

// usbDevice is the folder of the USB device that hardware is part of, or "".
func usbDevice(hardware string) string {
	for dir := hardware; len(dir) > 1; dir = filepath.Dir(dir) {
		if read(dir, "idVendor") != "" {
			return dir
		}
	}
	return ""
}

// target is the last name of what a link of the kernel points at, "" if there is
// none.
func target(dir, name string) string {
	to, err := os.Readlink(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// read gives the one line of a file of the kernel, "" if there is none. Names in
// it are chosen by devices and programs, so what would move a cursor is taken out.
func read(dir, name string) string {
	p, _ := os.ReadFile(filepath.Join(dir, name))
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimSpace(string(p)))
}
