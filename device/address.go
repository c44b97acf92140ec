package device

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Schemes of a line URL.
const (
	SchemeSerial = "serial"
	SchemeTCP    = "tcp"
)

// laterSchemes are part of the contract and not of this version; they are told
// apart from typing errors so that the message sends nobody looking for one.
var laterSchemes = []string{"tcp-listen", "udp-listen", "http-listen", "pulse"}

// Address is a line as the configuration names it:
//
//	serial:///dev/serial/by-id/X?baud=115200&parity=none&data=8&stop=1&dtr=on&rts=on
//	serial://COM3?baud=auto
//	tcp://host:port
//
// Everything after the question mark may be left out; the values shown for the
// first are the defaults.
type Address struct {
	Scheme   string // SchemeSerial or SchemeTCP
	Path     string // serial: the device file or COM port
	Host     string // tcp: host:port
	Baud     int    // serial: bits per second; 0 is auto, the device's own rate is to be found
	DataBits int    // serial: 5 to 8
	Parity   string // serial: none, odd or even
	StopBits string // serial: 1 or 2
	DTR, RTS bool   // serial: modem lines while the port is open
}

// ParseAddress reads a line URL. It is strict: what it does not know is an
// error that names the key and what would have been right.
func ParseAddress(raw string) (Address, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Address{}, fmt.Errorf("url: %q is not a URL like serial:///dev/serial/by-id/X or tcp://host:port", raw)
	}
	if u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return Address{}, fmt.Errorf("url: %q must have neither a user, a password nor a fragment", u.Redacted())
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Address{}, fmt.Errorf("url: options %q: write them as key=value&key=value", u.RawQuery)
	}
	switch u.Scheme {
	case SchemeSerial:
		return parseSerial(u, query)
	case SchemeTCP:
		return parseTCP(u, query)
	case "":
		return Address{}, fmt.Errorf("url: %q has no scheme; known: %s, %s", raw, SchemeSerial, SchemeTCP)
	}
	if slices.Contains(laterSchemes, u.Scheme) {
		return Address{}, fmt.Errorf("url: scheme %q is not supported by this version", u.Scheme)
	}
	return Address{}, fmt.Errorf("url: unknown scheme %q; known: %s, %s", u.Scheme, SchemeSerial, SchemeTCP)
}

// serialDefaults are those of the readers: 115200 8N1, both lines raised as
// supply.
var serialDefaults = Address{
	Scheme: SchemeSerial, Baud: 115200, DataBits: 8, Parity: "none", StopBits: "1", DTR: true, RTS: true,
}

var comPort = regexp.MustCompile(`^COM[1-9][0-9]{0,2}$`)

func parseSerial(u *url.URL, query url.Values) (Address, error) {
	a := serialDefaults
	a.Path = u.Path
	switch {
	case u.Host == "" && len(u.Path) > 1 && !strings.ContainsRune(u.Path, 0):
	case u.Path == "" && comPort.MatchString(u.Host):
		a.Path = u.Host
	case u.Host != "":
		return Address{}, fmt.Errorf("url: serial path %q: write three slashes before it, as in serial:///dev/ttyUSB0", u.Host+u.Path)
	default:
		return Address{}, fmt.Errorf("url: serial needs a path, as in serial:///dev/serial/by-id/X")
	}
	set := map[string]func(string) error{
		"baud":   func(v string) error { return setBaud(&a.Baud, v) },
		"data":   func(v string) error { return setInt(&a.DataBits, v, 5, 6, 7, 8) },
		"parity": func(v string) error { return setWord(&a.Parity, v, "none", "odd", "even") },
		"stop":   func(v string) error { return setWord(&a.StopBits, v, "1", "2") },
		"dtr":    func(v string) error { return setSwitch(&a.DTR, v) },
		"rts":    func(v string) error { return setSwitch(&a.RTS, v) },
	}
	if err := setOptions(query, set); err != nil {
		return Address{}, err
	}
	return a, nil
}

func parseTCP(u *url.URL, query url.Values) (Address, error) {
	host, port, err := net.SplitHostPort(u.Host)
	n, convErr := strconv.Atoi(port)
	if err != nil || host == "" || convErr != nil || n < 1 || n > 65535 {
		return Address{}, fmt.Errorf("url: tcp address %q must be host:port with a port from 1 to 65535", u.Host)
	}
	if u.Path != "" && u.Path != "/" {
		return Address{}, fmt.Errorf("url: tcp takes no path, got %q", u.Path)
	}
	if err := setOptions(query, nil); err != nil {
		return Address{}, err
	}
	return Address{Scheme: SchemeTCP, Host: net.JoinHostPort(host, port)}, nil
}

// setOptions applies each option of the query, in the order of their names so
// that the first error is always the same one.
func setOptions(query url.Values, set map[string]func(string) error) error {
	known := sortedKeys(set)
	for _, key := range sortedKeys(query) {
		apply, ok := set[key]
		if !ok && len(known) == 0 {
			return fmt.Errorf("url: unknown option %q; this scheme takes none", key)
		}
		if !ok {
			return fmt.Errorf("url: unknown option %q; %sknown: %s", key, didYouMean(key, known), strings.Join(known, ", "))
		}
		if len(query[key]) > 1 {
			return fmt.Errorf("url: option %s is given %d times", key, len(query[key]))
		}
		if err := apply(query[key][0]); err != nil {
			return fmt.Errorf("url: option %s: %w", key, err)
		}
	}
	return nil
}

func setBaud(to *int, value string) error {
	if value == "auto" {
		*to = 0
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 50 || n > 4_000_000 {
		return fmt.Errorf("%q is neither auto nor a rate from 50 to 4000000", value)
	}
	*to = n
	return nil
}

func setInt(to *int, value string, allowed ...int) error {
	n, err := strconv.Atoi(value)
	if err != nil || !slices.Contains(allowed, n) {
		return fmt.Errorf("%q is not one of %v", value, allowed)
	}
	*to = n
	return nil
}

func setWord(to *string, value string, allowed ...string) error {
	if !slices.Contains(allowed, value) {
		return fmt.Errorf("%q is not one of %v", value, allowed)
	}
	*to = value
	return nil
}

func setSwitch(to *bool, value string) error {
	if value != "on" && value != "off" {
		return fmt.Errorf("%q is neither on nor off", value)
	}
	*to = value == "on"
	return nil
}

// String writes the address without the options that have their defaults;
// ParseAddress reads it back the same.
func (a Address) String() string {
	if a.Scheme == SchemeTCP {
		return SchemeTCP + "://" + a.Host
	}
	u := url.URL{Path: a.Path}
	s := a.Scheme + "://" + u.EscapedPath()
	d := serialDefaults
	sep := "?"
	for _, o := range []struct{ key, value, normal string }{
		{"baud", baudText(a.Baud), ""}, // always: it is what goes wrong
		{"parity", a.Parity, d.Parity},
		{"data", strconv.Itoa(a.DataBits), strconv.Itoa(d.DataBits)},
		{"stop", a.StopBits, d.StopBits},
		{"dtr", onOff(a.DTR), onOff(d.DTR)},
		{"rts", onOff(a.RTS), onOff(d.RTS)},
	} {
		if o.value != o.normal {
			s += sep + o.key + "=" + o.value
			sep = "&"
		}
	}
	return s
}

func baudText(baud int) string {
	if baud == 0 {
		return "auto"
	}
	return strconv.Itoa(baud)
}

// AutoBaud says that the rate of a serial line is to be found.
func (a Address) AutoBaud() bool { return a.Scheme == SchemeSerial && a.Baud == 0 }

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
