package counter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/hallagent/hallagent/device"
)

func irKind() Kind {
	return Kind{
		Kind: device.Kind{
			Name: "ir-tcp",
			Doc:  "wireless infrared counters that dial in over TCP: M8 network protocol V1.7 (FA F5 F6, XML) and infrared passenger flow TCP (7E, comma separated)",
		},
		Sensor:   Beam,
		Schemes:  []string{device.SchemeTCPListen},
		Settings: func() Settings { return new(IR) },
		hear:     hearIR,
		patience: func(_ device.Address, s Settings) time.Duration {
			ir, _ := s.(*IR)
			return irMissing * ir.upload()
		},
	}
}

// IR are the settings of kind ir-tcp. Both dialects may meet on one line; the
// first byte of a message tells them apart.
type IR struct {
	Serial   string        `yaml:"serial"`   // of the unit, as it stands on its label
	Upload   time.Duration `yaml:"upload"`   // between two uploads, in whole minutes; 5m if 0
	Record   time.Duration `yaml:"record"`   // record cycle of the 7E dialect, in whole minutes; 0: none
	Timezone string        `yaml:"timezone"` // of the clock that the unit is set to; Asia/Shanghai if empty
}

const (
	defaultUpload = 5 * time.Minute
	irMissing     = 3                // uploads that do not come before a unit counts as silent
	irIdle        = 30 * time.Second // without a message, and the connection ends
	irWhole       = 10 * time.Second // for one message to come or to go
	lowBattery    = 25               // per cent, below which the units themselves warn
)

const irStamp = "20060102150405"

var irSerial = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// Check returns everything that is wrong with the settings.
func (s *IR) Check(device.Address) []Problem {
	var ps []Problem
	if !irSerial.MatchString(s.Serial) {
		ps = append(ps, Problem{"serial", fmt.Sprintf("%q is no serial number", s.Serial), `as it stands on the unit, in quotes: "2410640A0B0C"`})
	}
	if s.Upload != 0 && (s.Upload < time.Minute || s.Upload >= 24*time.Hour || s.Upload%time.Minute != 0) {
		ps = append(ps, Problem{"upload", fmt.Sprintf("%v is no upload interval", s.Upload), "whole minutes from 1m to 23h59m; 5m suits most halls"})
	}
	if s.Record < 0 || s.Record > s.upload() || s.Record%time.Minute != 0 {
		ps = append(ps, Problem{"record", fmt.Sprintf("%v is no record cycle", s.Record), "whole minutes, at most as long as upload; leave it out to have none"})
	}
	if _, err := zone(s.Timezone); err != nil {
		ps = append(ps, Problem{"timezone", fmt.Sprintf("no time zone %q", s.Timezone), "example: Asia/Shanghai"})
	}
	return ps
}

// Place is the serial number.
func (s *IR) Place() (key, value string) { return "serial", strings.ToUpper(s.Serial) }

func (s *IR) upload() time.Duration {
	if s.Upload == 0 {
		return defaultUpload
	}
	return s.Upload
}

// clock writes a time for the unit.
func (s *IR) clock(t time.Time) string {
	if loc, err := zone(s.Timezone); err == nil {
		t = t.In(loc)
	}
	return t.Format(irStamp)
}

// irReport is what a message of either dialect says.
type irReport struct {
	serial  string
	in, out uint64
	counts  bool   // there are figures; else it is a sign of life, or asks for the time
	stored  bool   // the unit has kept the figures since its stamp
	stamp   string // end of the period, YYYYMMDDHHMMSS of the unit's clock
	powered bool   // it speaks of its batteries
	low     bool   // one of them is nearly empty
	bad     error  // who speaks is understood and the figures are not
}

// irVerdict is what a message is answered with.
type irVerdict int

const (
	irStored irVerdict = iota
	irFailed
	irUnknown // not registered
)

// irMessage is a message of one dialect.
type irMessage interface {
	report() irReport

	// answer makes the frame that answers it, at a time; s is empty for a unit that
	// is not known.
	answer(v irVerdict, s *IR, at time.Time) []byte
}

// hearIR talks with units. A unit opens a connection for nearly every message,
// and some send several on one.
func hearIR(ctx context.Context, c device.Conn, on *units) error {
	r := bufio.NewReader(c)
	for {
		if err := c.SetReadDeadline(time.Now().Add(irIdle)); err != nil {
			return fmt.Errorf("set read deadline: %w", err)
		}
		first, err := r.Peek(1)
		if err != nil {
			return fmt.Errorf("read message: %w", err)
		}
		if err := c.SetReadDeadline(time.Now().Add(irWhole)); err != nil {
			return fmt.Errorf("set read deadline: %w", err)
		}
		m, err := readIR(r, first[0])
		if err != nil {
			return fmt.Errorf("read message: %w", err)
		}
		answer := takeIR(ctx, m, on)
		if err := c.SetWriteDeadline(time.Now().Add(irWhole)); err != nil {
			return fmt.Errorf("set write deadline: %w", err)
		}
		if _, err := c.Write(answer); err != nil {
			return fmt.Errorf("send answer: %w", err)
		}
	}
}

func readIR(r *bufio.Reader, first byte) (irMessage, error) {
	switch first {
	case faHead[0]:
		f, err := readFA(r)
		if err != nil {
			return nil, err
		}
		return f.message()
	case sevenHead:
		f, err := read7E(r)
		if err != nil {
			return nil, err
		}
		return f.message()
	}
	return nil, fmt.Errorf("%w: a message begins with %02X", errGarbled, first)
}

// takeIR acts on a message and gives the answer. Figures are only called well
// when they are stored: then the unit forgets them.
func takeIR(ctx context.Context, m irMessage, on *units) (answer []byte) {
	now := time.Now()
	report := m.report()
	unit := on.find(func(s Settings) bool {
		ir, ok := s.(*IR)
		return ok && strings.EqualFold(ir.Serial, report.serial)
	})
	if unit == nil {
		on.stranger(report.serial)
		return m.answer(irUnknown, &IR{}, now)
	}
	on.heard()
	settings := unit.config.Settings.(*IR)
	switch {
	case report.bad != nil:
		unit.hear()
		unit.count(func(s *Status) { s.Errors++ })
		return m.answer(irFailed, settings, now)
	case report.counts && unit.take(ctx, settings.reading(report, now)) != nil: // the status tells
		return m.answer(irFailed, settings, now)
	case report.low || !report.powered && unit.complains() == "battery":
		unit.alive("battery", "change the batteries of the unit and of the transmitter opposite")
	default:
		unit.alive("", "")
	}
	return m.answer(irStored, settings, now)
}

// reading makes a reading of figures.
func (s *IR) reading(report irReport, now time.Time) Reading {
	r := Reading{At: now, Value: Delta, In: report.in, Out: report.out, Period: s.upload()}
	at, err := s.parse(report.stamp)
	if err != nil {
		at = time.Time{}
	}
	r.place(at, report.stamp, report.stored)
	return r
}

func (s *IR) parse(stamp string) (time.Time, error) {
	loc, err := zone(s.Timezone)
	if err != nil {
		return time.Time{}, err
	}
	if len(stamp) != len(irStamp) {
		return time.Time{}, errors.New("a stamp has 14 digits")
	}
	return time.ParseInLocation(irStamp, stamp, loc)
}
