package device

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Schemes of a line URL.
const (
	SchemeSerial     = "serial"
	SchemeTCP        = "tcp"
	SchemeHTTP       = "http"        // a device that is asked over HTTP
	SchemePulse      = "pulse"       // the modem lines of a serial port as inputs
	SchemeTCPListen  = "tcp-listen"  // devices dial in
	SchemeUDPListen  = "udp-listen"  // devices send datagrams
	SchemeHTTPListen = "http-listen" // devices push over HTTP
)

// schemes are all of them, in the order in which messages name them.
var schemes = []string{
	SchemeSerial, SchemeTCP, SchemeHTTP, SchemePulse, SchemeTCPListen, SchemeUDPListen, SchemeHTTPListen,
}

// Address is a line as the configuration names it:
//
//	serial:///dev/serial/by-id/X?baud=115200&parity=none&data=8&stop=1&dtr=on&rts=on
//	serial://COM3?baud=auto
//	pulse:///dev/serial/by-id/X?dtr=on&rts=on
//	tcp://host:port
//	http://host:port
//	tcp-listen://address:port?allow=10.0.0.0/24,10.0.1.7
//	udp-listen://… and http-listen://… likewise
//
// Everything after the question mark may be left out, where the values shown for
// the first are the defaults; only a listener that the network can reach must say
// whom it allows.
type Address struct {
	Scheme   string
	Path     string // serial, pulse: the device file or COM port
	Host     string // host:port
	Allow    string // listeners: the allowed prefixes, by commas; "" is this machine alone
	Baud     int    // serial: bits per second; 0 is auto, the device's own rate is to be found
	DataBits int    // serial: 5 to 8
	Parity   string // serial: none, odd or even
	StopBits string // serial: 1 or 2
	DTR, RTS bool   // serial, pulse: modem lines while the port is open
}

// Listens says that devices come to this line instead of being gone to.
func (a Address) Listens() bool {
	return a.Scheme == SchemeTCPListen || a.Scheme == SchemeUDPListen || a.Scheme == SchemeHTTPListen
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
	case SchemeSerial, SchemePulse:
		return parsePort(u, query)
	case SchemeTCP, SchemeHTTP:
		a := Address{Scheme: u.Scheme}
		if a.Host, err = hostPort(u); err != nil {
			return Address{}, err
		}
		return a, setOptions(query, nil)
	case SchemeTCPListen, SchemeUDPListen, SchemeHTTPListen:
		return parseListen(u, query)
	case "":
		return Address{}, fmt.Errorf("url: %q has no scheme; known: %s", raw, strings.Join(schemes, ", "))
	}
	return Address{}, fmt.Errorf("url: unknown scheme %q; %sknown: %s", u.Scheme, didYouMean(u.Scheme, schemes), strings.Join(schemes, ", "))
}

// serialDefaults are those of the readers: 115200 8N1, both lines raised as
// supply.
var serialDefaults = Address{
	Scheme: SchemeSerial, Baud: 115200, DataBits: 8, Parity: "none", StopBits: "1", DTR: true, RTS: true,
}

// pulseDefaults raise both lines as supply of the contacts; nothing is sent, so
// the rate says nothing.
var pulseDefaults = Address{Scheme: SchemePulse, Baud: 9600, DataBits: 8, Parity: "none", StopBits: "1", DTR: true, RTS: true}

var comPort = regexp.MustCompile(`^COM[1-9][0-9]{0,2}$`)

func parsePort(u *url.URL, query url.Values) (Address, error) {
	a := serialDefaults
	if u.Scheme == SchemePulse {
		a = pulseDefaults
	}
	a.Path = u.Path
	switch {
	case u.Host == "" && len(u.Path) > 1 && !strings.ContainsRune(u.Path, 0):
	case u.Path == "" && comPort.MatchString(u.Host):
		a.Path = u.Host
	case u.Host != "":
		return Address{}, fmt.Errorf("url: serial path %q: write three slashes before it, as in %s:///dev/ttyUSB0", u.Host+u.Path, u.Scheme)
	default:
		return Address{}, fmt.Errorf("url: %s needs a path, as in %[1]s:///dev/serial/by-id/X", u.Scheme)
	}
	set := map[string]func(string) error{
		"dtr": func(v string) error { return setSwitch(&a.DTR, v) },
		"rts": func(v string) error { return setSwitch(&a.RTS, v) },
	}
	if u.Scheme == SchemeSerial {
		set["baud"] = func(v string) error { return setBaud(&a.Baud, v) }
		set["data"] = func(v string) error { return setInt(&a.DataBits, v, 5, 6, 7, 8) }
		set["parity"] = func(v string) error { return setWord(&a.Parity, v, "none", "odd", "even") }
		set["stop"] = func(v string) error { return setWord(&a.StopBits, v, "1", "2") }
	}
	if err := setOptions(query, set); err != nil {
		return Address{}, err
	}
	return a, nil
}

// hostPort reads host:port; only HTTP has a usual port.
func hostPort(u *url.URL) (string, error) {
	at := u.Host
	if u.Scheme == SchemeHTTP && u.Port() == "" {
		at = net.JoinHostPort(u.Hostname(), "80")
	}
	host, port, err := net.SplitHostPort(at)
	n, convErr := strconv.Atoi(port)
	if err != nil || host == "" || convErr != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("url: %s address %q must be host:port with a port from 1 to 65535", u.Scheme, u.Host)
	}
	if u.Path != "" && u.Path != "/" {
		return "", fmt.Errorf("url: %s takes no path, got %q", u.Scheme, u.Path)
	}
	return net.JoinHostPort(host, port), nil
}

func parseListen(u *url.URL, query url.Values) (a Address, err error) {
	a.Scheme = u.Scheme
	if a.Host, err = hostPort(u); err != nil {
		return Address{}, err
	}
	host, _, _ := net.SplitHostPort(a.Host) // it was joined a moment ago
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return Address{}, fmt.Errorf("url: %s needs an address of this machine, such as 10.0.0.5, not %q", u.Scheme, host)
	}
	err = setOptions(query, map[string]func(string) error{"allow": func(v string) error {
		prefixes, err := allowed(v)
		var text []string
		for _, p := range prefixes {
			text = append(text, p.String())
		}
		a.Allow = strings.Join(text, ",")
		return err
	}})
	if err == nil && a.Allow == "" && !ip.IsLoopback() {
		err = fmt.Errorf("url: %s on %s needs allow, the network its devices are in, as in ?allow=10.0.0.0/24", u.Scheme, host)
	}
	if err != nil {
		return Address{}, err
	}
	return a, nil
}

// allowed reads prefixes and single addresses, by commas.
func allowed(text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if ip, err := netip.ParseAddr(part); err == nil {
			all = append(all, netip.PrefixFrom(ip, ip.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("%q is neither a network like 10.0.0.0/24 nor an address", part)
		}
		all = append(all, p.Masked())
	}
	return all, nil
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
	switch {
	case a.Listens() && a.Allow != "":
		return a.Scheme + "://" + a.Host + "?allow=" + a.Allow
	case a.Host != "":
		return a.Scheme + "://" + a.Host
	}
	u := url.URL{Path: a.Path}
	s := a.Scheme + "://" + u.EscapedPath()
	d := serialDefaults
	if a.Scheme == SchemePulse {
		d = pulseDefaults
	}
	sep, usualBaud := "?", ""
	if a.Scheme == SchemePulse {
		usualBaud = baudText(d.Baud)
	}
	for _, o := range []struct{ key, value, normal string }{
		{"baud", baudText(a.Baud), usualBaud}, // always with a serial line: it is what goes wrong
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
