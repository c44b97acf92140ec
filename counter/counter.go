// Package counter reads entrance counters and turns what they show into passes.
//
// Most counters give totals: so many in, so many out, since some day nobody
// remembers. Others give what passed in a period, or each pass as it happens. A
// Meter makes passes of them all, through rollover, resets, repetitions and
// outages, and what it needs to go on (the mark) is stored in the transaction of
// the passes. So a crash, a restart or a full disk neither loses nor doubles a
// pass. A Bus owns a line and asks all counters on it in turn; one that falls
// silent does not stop the others. An Ear has a line on which counters speak by
// themselves.
//
// Limits: nothing is ever set in a device but, where its protocol wants to be
// answered so, its clock and how often it reports: nothing here can move a gate
// or clear a count. A counter that was reset while nobody read it has lost what
// it counted between the last reading and the reset; such passes are marked
// uncertain. What a counter that tells no totals counted while nobody listened is
// lost; the time is marked uncertain.
package counter

import (
	"context"
	"time"

	"github.com/hallagent/hallagent/device"
)

// Config is one counter of the configuration.
type Config struct {
	ID   string
	Kind string
	Line string
	Door string
	Swap bool // the device's "in" leads out of the hall

	// Sensor is the technique by which the counter counts; that of its kind if "".
	Sensor Sensor

	// Rate is the most persons a second in one direction; a total that rises
	// faster is not believed. 3 if 0.
	Rate float64

	// Settings is what the kind's Settings returned, filled in.
	Settings Settings
}

// Sensor is a technique of counting. What it misses and doubles differs widely,
// and so does how sure a number made of its passes can be.
type Sensor string

// The techniques.
const (
	Gate   Sensor = "gate"   // lets one person through at a time
	Camera Sensor = "camera" // stereo, time of flight or radar from above
	Beam   Sensor = "beam"   // light that a body breaks; two abreast are one
)

// Turned says whether what the device calls in leads out of the hall, by all that
// is configured.
func (c Config) Turned() bool {
	t, ok := c.Settings.(interface{ Turned() bool })
	return c.Swap != (ok && t.Turned())
}

// Settings is the part of a counter's configuration that belongs to its kind: a
// pointer to a plain struct with yaml tags.
type Settings interface {
	// Check returns everything that is wrong on a line of this address; the zero
	// Address leaves out what depends on the line.
	Check(line device.Address) []Problem

	// Place is the key and the value by which the counters of one line are told
	// apart: no two may share it.
	Place() (key, value string)
}

// Measures says that a counter of these settings shows the people inside (Level)
// instead of passes; it has no door.
func Measures(s Settings) bool {
	m, ok := s.(interface{ Measures() bool })
	return ok && m.Measures()
}

// Problem is a mistake in the settings of a counter.
type Problem struct {
	Key   string // path below the counter, as in map.in.words
	Cause string
	Hint  string
}

// Value says what the figures of a reading are.
type Value string

// The kinds of values.
const (
	Total Value = ""      // counted since some day nobody remembers
	Delta Value = "delta" // counted in a period that is over
	Event Value = "event" // passes as they happen
	Level Value = "level" // people inside, as a sensor above a zone sees them: a measurement, no passes
)

// Reading is what a counter shows at one moment.
type Reading struct {
	At      time.Time `json:"at"`
	Value   Value     `json:"value,omitempty"`
	In      uint64    `json:"in"`
	Out     uint64    `json:"out"`
	Modulus uint64    `json:"modulus,omitempty"` // of a Total: it rolls over to 0 here; 0 stands for 2^64

	// Period is how long the period of a Delta was; 0: since the reading before.
	Period time.Duration `json:"-"`

	// Stamp names a Delta or an Event; one that comes again under the same stamp is
	// the same. It is remembered for Once, that of a Delta since it last came, and
	// without end if that is 0.
	Stamp string        `json:"-"`
	Once  time.Duration `json:"-"`

	// Missed says that a Delta or an Event may have been lost before this reading,
	// as after a line that was away.
	Missed bool `json:"-"`

	People uint64 `json:"-"` // of a Level
}

// Pass is what went through a door between two readings.
type Pass struct {
	Device    string    `json:"device"`
	Door      string    `json:"door"`
	In        uint64    `json:"in"`
	Out       uint64    `json:"out"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Uncertain bool      `json:"uncertain"` // the numbers may be wrong, see Meter
}

// Update is what one reading changed.
type Update struct {
	Pass Pass   // In and Out are 0 if nobody passed; Device is always set
	Mark []byte // the meter's state after this reading, to be stored with the pass
	Note Note

	// At is when it was told; a device that keeps figures tells them later than they
	// passed.
	At time.Time

	// Level is the people inside that a Level found; Pass then is of no length.
	Level *uint64
}

// Note says what was special about a reading.
type Note string

const (
	First    Note = "first"    // there was no mark: the totals are taken as they are, no pass
	Gap      Note = "gap"      // the counter was not read for a while; the passes are right, their time is not
	Rollover Note = "rollover" // a total passed its modulus
	Reset    Note = "reset"    // a total fell and stayed there: the counter began anew
	Rebased  Note = "rebased"  // a total leapt and stayed there, or a delta is more than can pass: no pass

	Duplicate Note = "duplicate" // the same came before: nothing
)

// Sink stores an update. It returns nil only when the update is durable. After an
// error it may be or not be: the counter's mark is read again and gone on from
// there, so the difference comes with a later reading, once.
type Sink func(ctx context.Context, u Update) error
