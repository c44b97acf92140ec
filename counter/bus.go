package counter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
)

// Bus owns a line and reads all counters on it, one after the other, once per
// poll. A counter that does not answer is its own trouble: it is asked less
// often, so that it costs the others little, and the line is given up only when
// none answers.
type Bus struct {
	line    device.Address
	poll    time.Duration
	marks   func(device string) ([]byte, error)
	sink    Sink
	log     *slog.Logger
	members []*member
}

// Status is a snapshot of one counter.
type Status struct {
	ID    string       `json:"id"`
	Kind  string       `json:"kind"`
	Door  string       `json:"door"`
	State device.State `json:"state"`
	Since time.Time    `json:"since"` // of State; zero before the first

	// Code is "", or the stable cause of trouble: line (the line is not open),
	// silent, garbled, exception (the device refuses), mark (the stored totals
	// cannot be read), unstored (passes cannot be stored and wait in the device).
	Code string `json:"code,omitempty"`
	Err  string `json:"err,omitempty"`
	Hint string `json:"hint,omitempty"`

	In          uint64    `json:"in"` // totals as the device shows them, in and out as the hall sees them
	Out         uint64    `json:"out"`
	LastReading time.Time `json:"last_reading,omitzero"` // the last one that counted
	LastPass    time.Time `json:"last_pass,omitzero"`
	Resets      uint64    `json:"resets"`
	Rollovers   uint64    `json:"rollovers"`
	Rebases     uint64    `json:"rebases"`
	Errors      uint64    `json:"errors"` // readings that did not come
}

const (
	defaultPoll = time.Second
	silentAfter = 3               // readings in a row that did not come
	silentPoll  = 5 * time.Second // how often a silent counter is asked
	markEvery   = time.Minute     // how old the stored mark of a counter nobody passes may be

	unstoredHint = "nothing is lost: the device holds its totals until they can be stored"
)

// member is one counter on the bus. Only Use touches it, but for the status.
type member struct {
	config  Config
	station station

	meter    Meter
	loaded   bool      // the mark was read
	stored   time.Time // when a mark was last stored
	unstored bool      // the last update was not: the next is tried whatever it holds
	missed   int       // readings in a row that did not come
	silent   bool      // no valid answer came to the last of them
	next     time.Time // not to be asked before

	mu     sync.Mutex
	status Status
}

// NewBus puts the counters of one line together. Poll is the time between
// readings of a counter, one second if 0. Marks returns what the sink was last
// given for a device, nil if nothing, and an error while it cannot tell: then
// the counter is not read.
func NewBus(line device.Address, counters []Config, poll time.Duration, marks func(device string) ([]byte, error), sink Sink, log *slog.Logger) (*Bus, error) {
	if poll == 0 {
		poll = defaultPoll
	}
	b := &Bus{line: line, poll: poll, marks: marks, sink: sink, log: log}
	kinds, seen := Kinds(), map[string]bool{}
	for _, c := range counters {
		if seen[c.ID] {
			return nil, fmt.Errorf("counter %q is there twice", c.ID)
		}
		seen[c.ID] = true
		k, err := kinds.Find(c.Kind)
		if err != nil {
			return nil, fmt.Errorf("counter %q: %w", c.ID, err)
		}
		s, err := k.station(line, c.Settings)
		if err != nil {
			return nil, fmt.Errorf("counter %q: %w", c.ID, err)
		}
		if ps := c.Settings.Check(line); len(ps) > 0 {
			return nil, fmt.Errorf("counter %q: %s: %s", c.ID, ps[0].Key, ps[0].Cause)
		}
		b.members = append(b.members, &member{config: c, station: s, status: Status{
			ID: c.ID, Kind: c.Kind, Door: c.Door, State: device.Waiting, Code: "line",
		}})
	}
	return b, nil
}

// Status returns a snapshot of every counter, in the order of the configuration.
func (b *Bus) Status() []Status {
	var all []Status
	for _, m := range b.members {
		m.mu.Lock()
		all = append(all, m.status)
		m.mu.Unlock()
	}
	return all
}

// Use reads the counters over an open line until the line fails, every counter
// on it is silent, or ctx ends. It is a device.Use.
func (b *Bus) Use(ctx context.Context, c device.Conn, heard func()) error {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	w := &wire{c: c, baud: b.line.Baud, busy: time.Now()}
	tick := time.NewTicker(b.poll)
	defer tick.Stop()
	for _, m := range b.members {
		m.next = time.Time{} // a new line is worth a new try
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
	silent := 0
	for _, m := range b.members {
		if !time.Now().Before(m.next) {
			if err := b.read(ctx, w, m, heard); err != nil {
				return err
			}
		}
		if m.silent {
			silent++
		}
	}
	if silent == len(b.members) && silent > 0 {
		return fmt.Errorf("read counters: none of %d answers: %w", silent, device.ErrSilent)
	}
	return nil
}

// read reads one counter. The error is one of the line, not of the counter.
func (b *Bus) read(ctx context.Context, w *wire, m *member, heard func()) error {
	tries := 2
	if m.missed >= silentAfter {
		tries = 1 // it costs the others time
	}
	r, err := m.station.read(ctx, w, tries)
	var refusal exception
	switch {
	case err == nil:
		heard()
		m.missed, m.silent = 0, false
		b.take(ctx, m, r)
	case errors.As(err, &refusal):
		heard()
		b.miss(m, "exception", err)
	case errors.Is(err, errGarbled):
		b.miss(m, "garbled", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.miss(m, "silent", err)
	default:
		return err
	}
	return nil
}

// take makes passes of a reading and stores them.
func (b *Bus) take(ctx context.Context, m *member, r Reading) {
	if !m.loaded {
		mark, err := b.marks(m.config.ID)
		if err == nil {
			m.meter, err = NewMeter(mark, b.poll)
			m.meter.Rate = m.config.Rate
		}
		switch {
		case err == nil:
			m.loaded = true
		case m.unstored:
			b.set(m, device.Online, "unstored", err, unstoredHint)
			return
		default:
			b.set(m, device.Online, "mark", err, "the counter goes on counting; its passes come when the store can be read")
			return
		}
	}
	next, update := m.meter.Next(r)
	p := &update.Pass
	p.Device, p.Door = m.config.ID, m.config.Door
	if m.config.Swap {
		p.In, p.Out = p.Out, p.In
	}
	if p.In+p.Out > 0 || update.Note != "" || m.unstored || r.At.Sub(m.stored) >= markEvery {
		if err := b.sink(ctx, update); err != nil {
			// Whether the store took it is not known: go on from what it holds.
			m.loaded, m.unstored = false, true
			b.set(m, device.Online, "unstored", err, unstoredHint)
			return
		}
		m.stored, m.unstored = r.At, false
	}
	m.meter = next
	b.note(m, update)
	b.set(m, device.Online, "", nil, "")
}

// note brings the status up to date after an update was stored.
func (b *Bus) note(m *member, update Update) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, last := &m.status, m.meter.Last()
	s.In, s.Out, s.LastReading = last.In, last.Out, last.At
	if m.config.Swap {
		s.In, s.Out = s.Out, s.In
	}
	if update.Pass.In+update.Pass.Out > 0 {
		s.LastPass = update.Pass.To
	}
	switch update.Note {
	case Reset:
		s.Resets++
	case Rollover:
		s.Rollovers++
	case Rebased:
		s.Rebases++
	default:
		return
	}
	level := slog.LevelWarn
	if update.Note == Rollover {
		level = slog.LevelInfo // as it should
	}
	b.log.Log(context.Background(), level, "counter began anew", "device", s.ID, "kind", s.Kind, "note", string(update.Note), "in", s.In, "out", s.Out)
}

// miss counts a reading that did not come.
func (b *Bus) miss(m *member, code string, err error) {
	m.missed++
	m.mu.Lock()
	m.status.Errors++
	m.mu.Unlock()
	if m.missed < silentAfter {
		return
	}
	m.silent = code != "exception"
	m.next = time.Now().Add(max(silentPoll, b.poll))
	hint := map[string]string{
		"silent":    "check the device's power, its wiring, its station number and the line's rate",
		"garbled":   "check rate and parity, and that no second master and no second device with this station number is on the line",
		"exception": "check the register map; addresses count from zero, so a manual's may be one too high",
	}[code]
	b.set(m, device.Wedged, code, err, hint)
}

// lineLost says of every counter that its line is closed; who was silent before
// stays so, for that may be the reason.
func (b *Bus) lineLost(err error) {
	for _, m := range b.members {
		m.mu.Lock()
		wedged := m.status.State == device.Wedged
		m.mu.Unlock()
		if !wedged {
			b.set(m, device.Waiting, "line", err, "")
		}
	}
}

// set changes a counter's state, and logs it only when it changes.
func (b *Bus) set(m *member, state device.State, code string, err error, hint string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.status
	changed := s.State != state || s.Code != code
	if s.State != state || s.Since.IsZero() {
		s.Since = time.Now()
	}
	s.State, s.Code, s.Hint, s.Err = state, code, hint, ""
	if err != nil {
		s.Err = err.Error()
	}
	switch {
	case !changed:
	case code == "":
		b.log.Info("counter is read", "device", s.ID, "kind", s.Kind)
	case code != "line": // the line itself speaks of that
		b.log.Warn("counter is in trouble", "device", s.ID, "kind", s.Kind, "code", code, "err", err)
	}
}
