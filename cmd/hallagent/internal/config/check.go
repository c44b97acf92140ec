package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/idcard"
)

var (
	areaPattern = regexp.MustCompile(`^[0-9]{6}$`)
	hallPattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	idPattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,31}$`)
)

// maxData is the longest data directory in bytes whose control socket can be
// made: a unix socket's path has 103 bytes where it has fewest, and the socket is
// made under a temporary name in there first.
const maxData = 85

const idHint = "letters, digits and hyphens, at most 32, beginning with a letter or digit"

// check finds what single values cannot show: missing keys, names that nothing
// carries, things that exclude each other.
func (c *Config) check(d *decoder) {
	c.checkHall(d)
	c.checkLines(d)
	c.checkReaders(d)
	c.checkCounters(d)
	c.checkOccupancy(d)
	c.checkBroker(d)
	c.checkLAN(d)
	c.checkPhoto(d)
	c.checkLater(d)
}

// require reports a key that is missing or empty.
func (d *decoder) require(path, value, hint string) bool {
	if value != "" {
		return true
	}
	if d.has(path) {
		d.fail(path, hint, "is empty")
	} else {
		d.fail(path, hint, "is missing")
	}
	return false
}

// id checks form and uniqueness of an id of one list.
func (d *decoder) id(path, id string, seen map[string]string) {
	if !d.require(path, id, idHint) {
		return
	}
	if !idPattern.MatchString(id) {
		d.fail(path, idHint, "%q is no id", id)
	} else if first, ok := seen[id]; ok {
		d.fail(path, "every id is given once", "%q is already the id of %s", id, first)
	} else {
		seen[id] = strings.TrimSuffix(path, ".id")
	}
}

func (c *Config) checkHall(d *decoder) {
	h := c.Hall
	if d.require("hall.area", h.Area, "the six digits of GB/T 2260, in quotes") && !areaPattern.MatchString(h.Area) {
		d.fail("hall.area", "the six digits of GB/T 2260, in quotes", "%q is no area code", h.Area)
	}
	if d.require("hall.id", h.ID, "a short name, unique within the area") && !hallPattern.MatchString(h.ID) {
		d.fail("hall.id", "small letters, digits and hyphens, at most 32", "%q is no hall id", h.ID)
	}
	d.require("hall.name", h.Name, "the hall's name as the public knows it")
	if h.Capacity < 1 {
		if d.has("hall.capacity") {
			d.fail("hall.capacity", "the comfortable number of visitors, 1 or more", "%d is no capacity", h.Capacity)
		} else {
			d.fail("hall.capacity", "the comfortable number of visitors", "is missing")
		}
	}
	if !d.has("hall.hours") && !d.flagged["hall.hours"] && !d.flagged["hall"] {
		d.warn("hall.hours", `example: "08:30-12:00,13:30-17:00"`, "is missing: the hall counts as closed all day")
	}
	if c.Data == "" {
		d.fail("data", "example: /var/lib/hallagent", "is empty")
	} else if !filepath.IsAbs(c.Data) {
		d.fail("data", "write the whole path, such as /var/lib/hallagent", "%q depends on where the program is started", c.Data)
	} else if len(c.Data) > maxData {
		d.warn("data", fmt.Sprintf("at most %d bytes; a longer one leaves no way to pair workstations", maxData), "has %d bytes: the control socket in it has too long a name", len(c.Data))
	}
}

func (c *Config) checkLines(d *decoder) {
	seen, ports := map[string]string{}, map[string]string{}
	used, counted, doubt := map[string]bool{}, map[string]bool{}, false // doubt: somebody names a line that is not understood
	for i, r := range c.Readers {
		used[r.Line] = true
		doubt = doubt || d.flagged[fmt.Sprintf("readers[%d].line", i)]
	}
	for i, k := range c.Counters {
		used[k.Line], counted[k.Line] = true, true
		doubt = doubt || d.flagged[fmt.Sprintf("counters[%d].line", i)]
	}
	for i, l := range c.Lines {
		path := fmt.Sprintf("lines[%d]", i)
		d.id(path+".id", l.ID, seen)
		if !d.has(path + ".url") {
			d.fail(path+".url", "serial:///dev/serial/by-id/…, tcp://host:port, or one of the other forms in the sample", "is missing")
			continue
		}
		if d.flagged[path+".url"] {
			continue
		}
		port := l.URL.Path + l.URL.Host
		if first, ok := ports[port]; ok {
			d.fail(path+".url", "name one line and put both devices on it", "%s is already the port of %s", port, first)
		}
		ports[port] = path
		if l.URL.AutoBaud() && counted[l.ID] {
			d.fail(path+".url", "write the counter's rate, as in baud=9600", "baud=auto is for readers: no counter tells its rate")
		}
		if l.Poll < 100*time.Millisecond || l.Poll > time.Minute {
			d.fail(path+".poll", "100ms to 1m; 900ms to a few seconds suits most counters", "%v is no useful pace", l.Poll)
		}
		if l.ID != "" && !used[l.ID] && !doubt {
			d.warn(path+".id", "remove the line or name it in a reader or counter", "no device uses the line %q", l.ID)
		}
	}
}

// deviceID checks the id of a reader or counter, which is the source of what it
// sends.
func (d *decoder) deviceID(path, id string, seen map[string]string) {
	d.id(path, id, seen)
	if id == "agent" {
		d.fail(path, "choose another", "%q is the name under which the agent itself reports", id)
	}
}

// line checks that a device's line exists.
func (c *Config) line(d *decoder, path, id string) {
	if !d.require(path, id, "the id of one of the lines") {
		return
	}
	if _, ok := c.LineOf(id); ok {
		return
	}
	var known []string
	for _, l := range c.Lines {
		known = append(known, l.ID)
	}
	d.fail(path, suggest(id, known), "there is no line %q", id)
}

// suggest says what a wrong name could have been.
func suggest(word string, known []string) string {
	if near := device.Nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(known) == 0 {
		return ""
	}
	return "known: " + strings.Join(known, ", ")
}

func (c *Config) checkReaders(d *decoder) {
	seen, windows, lines := map[string]string{}, map[string]string{}, map[string]string{}
	for i, r := range c.Readers {
		path := fmt.Sprintf("readers[%d]", i)
		d.deviceID(path+".id", r.ID, seen)
		if d.require(path+".kind", r.Kind, "known: "+strings.Join(idcard.Kinds().Names(), ", ")) {
			if _, err := idcard.Kinds().Find(r.Kind); err != nil {
				d.fail(path+".kind", suggest(r.Kind, idcard.Kinds().Names()), "there is no kind of reader %q", r.Kind)
			}
		}
		c.line(d, path+".line", r.Line)
		if l, ok := c.LineOf(r.Line); ok && l.URL.Scheme != "" && l.URL.Scheme != device.SchemeSerial && l.URL.Scheme != device.SchemeTCP {
			d.fail(path+".line", "a reader is on serial://… or tcp://…", "a %s line is not for readers", l.URL.Scheme)
		}
		if first, ok := lines[r.Line]; ok && r.Line != "" {
			d.fail(path+".line", "a reader needs a line of its own", "%q already belongs to %s", r.Line, first)
		}
		lines[r.Line] = path
		if d.require(path+".window", r.Window, `the window's number, such as "05"`) && !idPattern.MatchString(r.Window) {
			d.fail(path+".window", idHint, "%q is no window", r.Window)
		}
		if first, ok := windows[r.Window]; ok && r.Window != "" {
			d.fail(path+".window", "one reader for each window", "%q already has the reader of %s", r.Window, first)
		}
		windows[r.Window] = path
		if r.Poll < 50*time.Millisecond || r.Poll > 10*time.Second {
			d.fail(path+".poll", "50ms to 10s; 200ms suits most readers", "%v is no useful pace", r.Poll)
		}
	}
}

func (c *Config) checkOccupancy(d *decoder) {
	o := c.Occupancy
	if d.has("occupancy.scale") && (o.Scale < 0.5 || o.Scale > 2) {
		d.fail("occupancy.scale", scaleHint, "%v is no plausible scale", o.Scale)
	}
	if o.Stay < time.Second || o.Stay > 8*time.Hour {
		d.fail("occupancy.stay", "5m to 8h; 40m suits most halls", "%v is no stay", o.Stay)
	}
	if l := o.Levels; len(l) != 3 || l[0] < 1 || l[0] >= l[1] || l[1] >= l[2] || l[2] > 200 {
		d.fail("occupancy.levels", "example: [30, 60, 85]", "needs three rising numbers, per cent of capacity")
	}
}

func (c *Config) checkBroker(d *decoder) {
	b := c.Broker
	const hint = "mqtts://host:8883, or mqtt://host:1883 without encryption"
	if d.require("broker.url", b.URL, hint) {
		u, err := url.Parse(b.URL)
		switch {
		case err != nil || u.Hostname() == "" || u.Port() != "" && !validPort(u.Port()) || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
			d.fail("broker.url", hint, "%q is no address of a broker", b.URL)
		case u.Scheme != "mqtt" && u.Scheme != "mqtts":
			d.fail("broker.url", hint, "unknown scheme %q", u.Scheme)
		case u.User != nil:
			d.fail("broker.url", "use username and password_file", "a URL with a password ends up in logs")
		case u.Scheme == "mqtt" && !loopback(u.Hostname()):
			d.warn("broker.url", "use mqtts://", "the connection is not encrypted")
		}
	}
	if !slices.Contains([]string{"broker", "central"}, b.Acknowledge) {
		d.fail("broker.acknowledge", "broker: PUBACK; central: the consumer's word", "%q is neither broker nor central", b.Acknowledge)
	}
	if (b.CertFile == "") != (b.KeyFile == "") {
		d.fail("broker.cert_file", "mutual TLS needs both", "cert_file and key_file belong together")
	}
	if b.PasswordFile != "" && b.Username == "" {
		d.fail("broker.username", "add the user the password belongs to", "is missing beside password_file")
	}
	if c.Visits.MaxSize < 1<<20 {
		d.fail("visits.max_size", "1MiB or more; 256MiB keeps months of visits", "%d bytes are too few", c.Visits.MaxSize)
	}
	if c.Visits.DrainRate < 0 {
		d.fail("visits.drain_rate", "records per second; 0 is as fast as it goes", "%d is less than nothing", c.Visits.DrainRate)
	}
}

// validPort wants plain digits: 80 is one, +80 and http are none.
func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func (c *Config) checkLAN(d *decoder) {
	if len(c.LAN.Listen) == 0 {
		d.fail("lan.listen", `example: ["127.0.0.1:8080"]`, "needs at least one address")
	}
	devices := map[string]string{}
	for i, l := range c.Lines {
		if l.URL.Listens() && l.URL.Scheme != device.SchemeUDPListen {
			devices[l.URL.Host] = fmt.Sprintf("lines[%d]", i)
		}
	}
	for i, listen := range c.LAN.Listen {
		path := fmt.Sprintf("lan.listen[%d]", i)
		if line, ok := devices[listen]; ok {
			d.fail(path, "devices need a port of their own", "%s is already the address of %s", listen, line)
		}
		host, port, err := net.SplitHostPort(listen)
		if err != nil || !validPort(port) {
			d.fail(path, "example: 127.0.0.1:8080", "%q is no address with a port from 1 to 65535", listen)
		} else if !loopback(host) {
			d.fail(path, "use 127.0.0.1: this version has no TLS and serves the gateway itself only", "%s is not loopback", listen)
		}
	}
	for i, host := range c.LAN.Hosts {
		if host == "" || strings.ContainsAny(host, "/: *") {
			d.fail(fmt.Sprintf("lan.hosts[%d]", i), "example: gw.hall.lan", "%q is no host name", host)
		}
	}
	for i, origin := range c.LAN.Origins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.Scheme+"://"+u.Host != origin || strings.Contains(origin, "*") {
			d.fail(fmt.Sprintf("lan.origins[%d]", i), "scheme and host only, exactly as the browser sends it: https://forms.intranet.example", "%q is no origin", origin)
		}
	}
}

// checkPhoto looks at the command as it is written; whether the program is there
// is found when it is used.
func (c *Config) checkPhoto(d *decoder) {
	p := c.Photo
	if d.has("photo.decoder") && len(p.Decoder) == 0 {
		d.fail("photo.decoder", `example: ["/opt/vendor/wlt2bmp", "-"]; leave it out to have no decoder`, "is empty")
	}
	for i, word := range p.Decoder {
		path := fmt.Sprintf("photo.decoder[%d]", i)
		switch {
		case strings.ContainsRune(word, 0):
			d.fail(path, "write it without", "has a NUL character")
		case i == 0 && !filepath.IsAbs(word):
			d.fail(path, "write the whole path, such as /opt/vendor/wlt2bmp, and each argument as an item of its own", "%q is no absolute path", word)
		case i == 0 && within(c.Data, filepath.Dir(word)):
			d.warn(path, "move it to a folder of its own, such as /opt/vendor", "the decoder may read its own folder, and data lies in it")
		}
	}
	if p.Limit < 100*time.Millisecond || p.Limit > 10*time.Second {
		d.fail("photo.limit", "100ms to 10s; 5s suits most decoders", "%v is no useful limit", p.Limit)
	}
}

// within says whether a path lies in a folder.
func within(path, folder string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// checkLater names the keys that are understood and have no effect yet: better
// said than found out.
func (c *Config) checkLater(d *decoder) {
	for _, path := range []string{"audit", "lookup"} {
		if d.has(path) {
			d.warn(path, "keep it: it is checked now and used later", "has no effect in this version")
		}
	}
	if c.Lookup.Deadline <= 0 || c.Lookup.Deadline > 10*time.Second {
		d.fail("lookup.deadline", "up to 10s", "%v is no deadline", c.Lookup.Deadline)
	}
	if c.Audit.Keep < 24*time.Hour {
		d.fail("audit.keep", "183d is what the law asks for", "%v is too short", c.Audit.Keep)
	}
}
