package serial

import (
	"net/url"
	"path/filepath"
	"slices"
)

// Port is a serial port of this machine.
type Port struct {
	Name  string   `json:"name"`            // to write into a configuration: as stable as there is
	Path  string   `json:"path"`            // the device file, which may change at the next plugging
	Links []string `json:"links,omitempty"` // all stable names, sorted

	// What a USB adapter says of itself; empty for other ports, and where it says
	// nothing. The ids are four hexadecimal digits.
	VendorID     string `json:"vendor_id,omitempty"`
	ProductID    string `json:"product_id,omitempty"`
	Serial       string `json:"serial_number,omitempty"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Product      string `json:"product,omitempty"`

	Driver  string   `json:"driver,omitempty"`  // of the kernel
	Holders []Holder `json:"holders,omitempty"` // processes that have it open
	Unseen  bool     `json:"unseen"`            // there may be more, which this user cannot see
	Denied  bool     `json:"denied"`            // this user may not open it
}

// Holder is a process that has a port open.
type Holder struct {
	PID     int    `json:"pid"`
	Program string `json:"program"`
	Locked  bool   `json:"locked"` // it keeps a lock on the port, as this package does
}

// URL is the port as a line of the configuration, without options.
func (p Port) URL() string {
	if p.Name != "" && p.Name[0] != '/' {
		return "serial://" + p.Name // a COM port
	}
	return (&url.URL{Scheme: "serial", Path: p.Name}).String()
}

// Is says whether path is a name of the port, or a link to it.
func (p Port) Is(path string) bool {
	if path == p.Name || path == p.Path || slices.Contains(p.Links, path) {
		return true
	}
	to, err := filepath.EvalSymlinks(path)
	return err == nil && to == p.Path
}
