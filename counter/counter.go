// Package counter reads entrance counters and turns what they show into passes.
//
// A counter gives totals, not events: so many in, so many out, since some day
// nobody remembers. A Meter makes passes of the difference between two readings,
// through rollover, resets and outages, and its last totals (the mark) are
// stored in the transaction of the passes they made. So a crash, a restart or a
// full disk neither loses nor doubles a pass. A Bus owns a line and asks all
// counters on it in turn; one that falls silent does not stop the others.
//
// Limits: nothing is ever written to a device, so nothing here can move a gate
// or clear a count. A counter that was reset while nobody read it has lost what
// it counted between the last reading and the reset; such passes are marked
// uncertain.
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

	// Rate is the most persons a second in one direction; a total that rises
	// faster is not believed. 3 if 0.
	Rate float64

	// Settings is what the kind's Settings returned, filled in.
	Settings Settings
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

// Problem is a mistake in the settings of a counter.
type Problem struct {
	Key   string // path below the counter, as in map.in.words
	Cause string
	Hint  string
}

// Reading is what a counter shows at one moment.
type Reading struct {
	At      time.Time `json:"at"`
	In      uint64    `json:"in"`
	Out     uint64    `json:"out"`
	Modulus uint64    `json:"modulus,omitempty"` // each total rolls over to 0 here; 0 stands for 2^64
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
}

// Note says what was special about a reading.
type Note string

const (
	First    Note = "first"    // there was no mark: the totals are taken as they are, no pass
	Gap      Note = "gap"      // the counter was not read for a while; the passes are right, their time is not
	Rollover Note = "rollover" // a total passed its modulus
	Reset    Note = "reset"    // a total fell and stayed there: the counter began anew
	Rebased  Note = "rebased"  // a total leapt and stayed there: taken as it is, no pass
)

// Sink stores an update. It returns nil only when the update is durable. After an
// error it may be or not be: the bus asks for the mark again and goes on from
// there, so the difference comes with a later reading, once.
type Sink func(ctx context.Context, u Update) error
