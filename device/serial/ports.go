package serial

import "net/url"

// Port is a serial port of this machine.
type Port struct {
	Name    string   // to write into a configuration: as stable as there is
	Path    string   // the device file, which may change at the next plugging
	Links   []string // all stable names, sorted
	Product string   // what a USB adapter calls itself, or ""
}

// URL is the port as a line of the configuration, without options.
func (p Port) URL() string {
	if p.Name != "" && p.Name[0] != '/' {
		return "serial://" + p.Name // a COM port
	}
	return (&url.URL{Scheme: "serial", Path: p.Name}).String()
}
