// Package config reads the one configuration file of a hall: strictly, and with
// all problems at once.
//
// The file is YAML. An unknown key, a wrong type, a name that nothing carries:
// each is a Problem with line, column, cause and hint, and one reading finds
// them all, because an installer on a ladder should not fix ten typing errors
// in ten rounds. The decoder walks the syntax tree itself; the library's own
// strict mode stops at the first problem.
//
// Limits: the package reads the one file and nothing else. Whether a port, a
// password file or a broker is there is found when it is used, since it can
// come and go while the agent runs.
package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
)

// Config is the whole file. Fields that are absent hold their defaults.
type Config struct {
	Hall      Hall      `yaml:"hall"`
	Data      string    `yaml:"data"` // directory of the stores and the control socket
	Lines     []Line    `yaml:"lines"`
	Readers   []Reader  `yaml:"readers"`
	Doors     []Door    `yaml:"doors"`
	Counters  []Counter `yaml:"counters"`
	Occupancy Occupancy `yaml:"occupancy"`
	Broker    Broker    `yaml:"broker"`
	Visits    Visits    `yaml:"visits"`
	Audit     Audit     `yaml:"audit"`
	Lookup    Lookup    `yaml:"lookup"`
	LAN       LAN       `yaml:"lan"`
	Photo     Photo     `yaml:"photo"`
}

// Hall is the hall itself.
type Hall struct {
	Area     string   `yaml:"area"` // GB/T 2260, six digits
	ID       string   `yaml:"id"`   // [a-z0-9-]{1,32}, unique within the area
	Name     string   `yaml:"name"`
	Capacity int      `yaml:"capacity"` // comfortable number of visitors
	Hours    Hours    `yaml:"hours"`
	Timezone Location `yaml:"timezone"`
}

// Line is one physical line to one or more devices.
type Line struct {
	ID   string        `yaml:"id"`
	URL  Address       `yaml:"url"`
	Poll time.Duration `yaml:"poll"` // between two readings of each counter on it
}

// defaults reads a counter a little more often than once a second, so that a
// pass is on the page within one.
func (l *Line) defaults() { l.Poll = 900 * time.Millisecond }

// Reader is an ID-card reader at a window.
type Reader struct {
	ID     string        `yaml:"id"`
	Kind   string        `yaml:"kind"`
	Line   string        `yaml:"line"`
	Window string        `yaml:"window"`
	Poll   time.Duration `yaml:"poll"`
}

func (r *Reader) defaults() { r.Poll = 200 * time.Millisecond }

// Door is a way into the hall.
type Door struct {
	ID    string  `yaml:"id"`
	Role  string  `yaml:"role"`  // visitor, staff, both
	Scale float64 `yaml:"scale"` // persons per counted one at this door, from a hand count; 0: that of the hall
}

func (d *Door) defaults() { d.Role = "visitor" }

// Counter is an entrance counter at a door. Keys of its kind stand beside the
// common ones and land in Settings.
type Counter struct {
	ID     string  `yaml:"id"`
	Kind   string  `yaml:"kind"`
	Line   string  `yaml:"line"`
	Door   string  `yaml:"door"`
	Swap   bool    `yaml:"swap"`   // in and out are exchanged
	Rate   float64 `yaml:"rate"`   // most persons a second in one direction; a total that rises faster is not believed
	Sensor string  `yaml:"sensor"` // gate, camera, beam; "" is what its kind mostly is

	Settings counter.Settings `yaml:"-"`
}

func (c *Counter) defaults() { c.Rate = 3 }

// inline gives the decoder the settings of the kind that was just read.
func (c *Counter) inline() any {
	kind, err := counter.Kinds().Find(c.Kind)
	if err != nil {
		return nil
	}
	c.Settings = kind.Settings()
	return c.Settings
}

// Occupancy is what the estimate of people in the hall needs to know.
type Occupancy struct {
	Staff  Staff         `yaml:"staff"`  // expected staff inside who came by visitor doors
	Scale  float64       `yaml:"scale"`  // persons per counted one, from a hand count; 0 when nobody counted
	Stay   time.Duration `yaml:"stay"`   // how long visitors stay, the mean, until it is learned
	Levels []int         `yaml:"levels"` // three borders in per cent of capacity, rising
}

// Broker is the way to the central services.
type Broker struct {
	URL          string `yaml:"url"` // mqtt:// or mqtts://
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	CAFile       string `yaml:"ca_file"`
	CertFile     string `yaml:"cert_file"`
	KeyFile      string `yaml:"key_file"`
	Acknowledge  string `yaml:"acknowledge"` // broker, central
}

// Visits is the policy of the stream of passes.
type Visits struct {
	MaxSize   Size `yaml:"max_size"`   // bytes
	DrainRate int  `yaml:"drain_rate"` // records per second, 0 = as fast as it goes
}

// Audit is the policy of the audit stream.
type Audit struct {
	Keep    time.Duration `yaml:"keep"`
	KeyFile string        `yaml:"key_file"`
}

// Lookup is how identity questions are asked.
type Lookup struct {
	Deadline           time.Duration `yaml:"deadline"`
	FormServiceKeyFile string        `yaml:"form_service_key_file"`
}

// LAN is the HTTP side.
type LAN struct {
	Listen  []string `yaml:"listen"`
	Hosts   []string `yaml:"hosts"`
	Origins []string `yaml:"origins"`
}

// Photo is how the photo of a card becomes a picture.
type Photo struct {
	Decoder []string      `yaml:"decoder"` // program and arguments, without a shell; empty: photos stay as they are
	Limit   time.Duration `yaml:"limit"`   // for one photo
}

// Default is the configuration before the file is read.
func Default() Config {
	return Config{
		Hall:      Hall{Timezone: Location{time.FixedZone("Asia/Shanghai", 8*3600)}},
		Data:      "/var/lib/hallagent",
		Occupancy: Occupancy{Stay: 40 * time.Minute, Levels: []int{30, 60, 85}},
		Broker:    Broker{Acknowledge: "broker"},
		Visits:    Visits{MaxSize: 256 << 20},
		Audit:     Audit{Keep: 183 * 24 * time.Hour},
		Lookup:    Lookup{Deadline: 10 * time.Second},
		LAN:       LAN{Listen: []string{"127.0.0.1:8080"}},
		Photo:     Photo{Limit: 5 * time.Second},
	}
}

// Load reads a file. The problems are errors and warnings; a configuration with
// any error must not be run. The error is for a file that cannot be read, or has
// more than 1 MiB.
func Load(path string) (Config, Problems, error) {
	text, err := readFile(path)
	if err != nil {
		return Config{}, nil, fmt.Errorf("read configuration: %w", err)
	}
	c, problems := Parse(text)
	return c, problems, nil
}

// Parse reads a configuration from its text: UTF-8, with or without a byte order
// mark.
func Parse(text []byte) (Config, Problems) {
	c := Default()
	d := newDecoder()
	d.decode(text, &c)
	if !d.syntax {
		c.check(d)
	}
	return c, d.sorted()
}

// LineOf gives the line with an id; the second value tells whether there is one.
func (c *Config) LineOf(id string) (Line, bool) {
	for _, l := range c.Lines {
		if l.ID == id {
			return l, true
		}
	}
	return Line{}, false
}

// Address is a line URL as a value of the file.
type Address struct{ device.Address }

// UnmarshalText parses a line URL.
func (a *Address) UnmarshalText(text []byte) error {
	address, err := device.ParseAddress(string(text))
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "url: ")) // the key is named anyway
	}
	a.Address = address
	return nil
}

// Location is an IANA time zone as a value of the file.
type Location struct{ *time.Location }

// UnmarshalText loads a time zone by its name.
func (l *Location) UnmarshalText(text []byte) (err error) {
	if l.Location, err = time.LoadLocation(string(text)); err != nil || len(text) == 0 {
		return fmt.Errorf("no time zone %q; an example is Asia/Shanghai", text)
	}
	return nil
}

// Size is a number of bytes, written with a unit: 256MiB, 1GiB, 65536.
type Size int64

// UnmarshalText reads a number with an optional unit KiB, MiB or GiB.
func (s *Size) UnmarshalText(text []byte) error {
	str, shift := string(text), 0
	for unit, n := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, ok := strings.CutSuffix(str, unit); ok {
			str, shift = strings.TrimSpace(rest), n
		}
	}
	var n int64
	if _, err := fmt.Sscanf(str+"\n", "%d\n", &n); err != nil || n < 0 || n > 1<<(62-shift) {
		return fmt.Errorf("%q is no size; write a number with KiB, MiB or GiB, such as 256MiB", text)
	}
	*s = Size(n << shift)
	return nil
}
