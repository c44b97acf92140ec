package counter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/hallagent/hallagent/device"
)

// Bus owns a line and reads all counters on it, one after the other, once per
// poll. A counter that does not answer is its own trouble: it is asked less
// often, so that it costs the others little, and the line is given up only when
// none answers. Counters of several kinds may share the line; between two
// protocols it is left quiet for a while, so that no device takes the tail of a
// foreign frame for the head of its own.
type Bus struct {
	line     device.Address
	poll     time.Duration
	stations []*stationOnBus
}

const (
	defaultPoll = time.Second
	silentAfter = 3                     // readings in a row that did not come
	silentPoll  = 5 * time.Second       // how often a silent counter is asked
	quiet       = 50 * time.Millisecond // between two protocols on one line
)

// stationOnBus is one counter on the bus. Only Use touches it.
type stationOnBus struct {
	*member
	station station
	missed  int       // readings in a row that did not come
	silent  bool      // no valid answer came to the last of them
	asked   time.Time // last
	next    time.Time // not to be asked before
	garbled bool      // what came to the last was no valid answer
	fresh   bool      // not read since the line was opened
}

// NewBus puts the counters of one line together. Poll is the time between
// readings of a counter, one second if 0. Marks returns what the sink was last
// given for a device, nil if nothing, and an error while it cannot tell: then
// the counter is not read.
func NewBus(line device.Address, counters []Config, poll time.Duration, marks func(device string) ([]byte, error), sink Sink, log *slog.Logger) (*Bus, error) {
	if poll == 0 {
		poll = defaultPoll
	}
	b := &Bus{line: line, poll: poll}
	books := &books{marks, sink, log}
	err := each(line, counters, func(k Kind, c Config) error {
		if !k.Asked(line, c.Settings) {
			return fmt.Errorf("kind %s speaks by itself and shares no line", k.Name)
		}
		s, err := k.station(line, c.Settings)
		if err == nil {
			b.stations = append(b.stations, &stationOnBus{member: newMember(c, books, poll), station: s})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Status returns a snapshot of every counter, in the order of the configuration.
func (b *Bus) Status() (all []Status) {
	now := time.Now()
	for _, m := range b.stations {
		all = append(all, m.snapshot(now))
	}
	return all
}

// Strangers are none: who is not asked does not answer.
func (b *Bus) Strangers() []string { return nil }

// Use reads the counters over an open line until the line fails, every counter
// on it is silent, or ctx ends. It is a device.Use.
func (b *Bus) Use(ctx context.Context, c device.Conn, heard func()) error {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	w := &wire{c: c, baud: b.line.Baud, busy: time.Now(), shared: b.shared()}
	tick := time.NewTicker(b.poll)
	defer tick.Stop()
	for _, m := range b.stations {
		m.silent, m.garbled = false, false
		m.next, m.fresh = m.asked.Add(b.poll), true // a new line is worth a new try, and no more than one for each poll
	}
	for {
		if err := b.round(ctx, w, heard); err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			b.lineLost(err)
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.lineLost(ctx.Err())
			return ctx.Err()
		}
	}
}

// round reads every counter whose time has come.
func (b *Bus) round(ctx context.Context, w *wire, heard func()) error {
	silent, garbled := 0, 0
	for _, m := range b.stations {
		if !time.Now().Before(m.next) {
			if err := b.read(ctx, w, m, heard); err != nil {
				return err
			}
		}
		switch {
		case m.silent && m.garbled:
			garbled++
		case m.silent:
			silent++
		}
	}
	switch {
	case silent+garbled < len(b.stations) || len(b.stations) == 0:
		return nil
	case garbled > 0:
		return fmt.Errorf("read counters: none of %d answers rightly: %w", len(b.stations), device.ErrGarbled)
	}
	return fmt.Errorf("read counters: none of %d answers: %w", silent, device.ErrSilent)
}

// shared are the Modbus stations at which several counters are.
func (b *Bus) shared() map[byte]bool {
	seen, shared := map[byte]bool{}, map[byte]bool{}
	for _, m := range b.stations {
		if s, ok := m.station.(*modbusStation); ok {
			at := byte(s.settings.Station)
			shared[at] = seen[at]
			seen[at] = true
		}
	}
	return shared
}

// read reads one counter. The error is one of the line, not of the counter.
func (b *Bus) read(ctx context.Context, w *wire, m *stationOnBus, heard func()) error {
	tries := 2
	if m.missed >= silentAfter {
		tries = 1 // it costs the others time
	}
	if kind := m.config.Kind; kind != w.spoke {
		if w.spoke != "" {
			if err := device.Pause(ctx, time.Until(w.busy.Add(quiet))); err != nil {
				return err
			}
		}
		w.spoke = kind
	}
	m.asked = time.Now()
	r, err := m.station.read(ctx, w, tries)
	var refusal exception
	switch {
	case err == nil:
		heard()
		r.Missed = m.missed > 0 || m.fresh
		m.missed, m.silent, m.fresh = 0, false, false
		_ = m.take(ctx, r) // the status tells; the reading comes again
	case errors.As(err, &refusal):
		heard()
		m.miss("exception", err, b.poll)
	case errors.Is(err, errGarbled):
		m.books.log.Debug("answer is garbled", "device", m.config.ID, "kind", m.config.Kind, "err", err)
		m.miss("garbled", err, b.poll)
	case errors.Is(err, os.ErrDeadlineExceeded):
		m.miss("silent", err, b.poll)
	default:
		return err
	}
	return nil
}

// miss counts a reading that did not come.
func (m *stationOnBus) miss(code string, err error, poll time.Duration) {
	m.missed++
	m.count(func(s *Status) { s.Errors++ })
	if m.missed < silentAfter {
		return
	}
	m.silent, m.garbled = code != "exception", code == "garbled"
	m.next = time.Now().Add(max(silentPoll, poll))
	hint := map[string]string{
		"silent":    "check the device's power, its wiring, its station number and the line's rate",
		"garbled":   "check rate and parity, and that no second master and no second device with this station number is on the line",
		"exception": "check the register map; addresses count from zero, so a manual's may be one too high",
	}[code]
	m.set(device.Wedged, code, err, hint)
}

// lineLost says of every counter that its line is closed; who was silent before
// stays so, for that may be the reason.
func (b *Bus) lineLost(err error) {
	for _, m := range b.stations {
		if m.state() != device.Wedged {
			m.set(device.Waiting, "line", err, "")
		}
	}
}
