package counter

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
)

// Status is a snapshot of one counter.
type Status struct {
	ID    string       `json:"id"`
	Kind  string       `json:"kind"`
	Door  string       `json:"door"`
	State device.State `json:"state"`
	Since time.Time    `json:"since"` // of State; zero before the first

	// Code is "", or the stable cause of trouble: line (the line is not open),
	// silent, garbled, exception (the device refuses), mark (the stored totals
	// cannot be read), unstored (passes cannot be stored and wait), blocked (a beam
	// is covered), battery (nearly empty), refused (the login is not accepted).
	Code string `json:"code,omitempty"`
	Err  string `json:"err,omitempty"`
	Hint string `json:"hint,omitempty"`

	In          uint64    `json:"in"` // as the device shows them, else as told since the start; as the hall sees them
	Out         uint64    `json:"out"`
	LastReading time.Time `json:"last_reading,omitzero"` // the last one that counted
	LastPass    time.Time `json:"last_pass,omitzero"`
	Resets      uint64    `json:"resets"`
	Rollovers   uint64    `json:"rollovers"`
	Rebases     uint64    `json:"rebases"`
	Gaps        uint64    `json:"gaps"`       // times that readings are missing
	Duplicates  uint64    `json:"duplicates"` // that came again and were dropped
	Errors      uint64    `json:"errors"`     // readings that did not come, or were damaged
	Noise       uint64    `json:"noise"`      // pulses too short to be somebody
	Undirected  uint64    `json:"undirected"` // passes whose direction was not seen, counted neither in nor out
}

const (
	markEvery = time.Minute // how old the stored mark of a counter nobody passes may be
	waiting   = 1000        // deltas and events that may wait for a store

	unstoredHint = "nothing is lost while the agent runs: the device or the agent holds what was counted until it can be stored"
)

// books is where passes are stored.
type books struct {
	marks func(device string) ([]byte, error)
	sink  Sink
	log   *slog.Logger
}

// member is one counter on a line. Readings of one come one after the other,
// whichever connection brings them.
type member struct {
	config   Config
	books    *books
	poll     time.Duration
	patience time.Duration // how long a counter that speaks by itself may be silent; 0: for ever

	taking   sync.Mutex
	meter    Meter
	loaded   bool      // the mark was read
	stored   time.Time // when a mark was last stored
	unstored bool      // the last update was not: the next is tried whatever it holds
	shown    Reading   // the last total or level, as the device told it
	level    *uint64   // people inside, as they were last stored
	waits    []Reading // deltas and events that were not stored, in order; perhaps the first was

	mu        sync.Mutex
	heard     time.Time // the last valid word of it, at first when it could begin to speak
	complaint complaint
	status    Status
}

func newMember(c Config, b *books, poll time.Duration) *member {
	return &member{config: c, books: b, poll: poll, heard: time.Now(), status: Status{
		ID: c.ID, Kind: c.Kind, Door: c.Door, State: device.Waiting, Code: "line",
	}}
}

// take makes passes of a reading and stores them. With an error they are not
// stored: a total comes again, anything else is kept and stored with the next
// reading.
func (m *member) take(ctx context.Context, r Reading) error {
	m.taking.Lock()
	defer m.taking.Unlock()
	m.hear()
	if r.Value == Delta || r.Value == Event {
		if !m.awaits(r) {
			m.waits = append(m.waits, r)
		}
		if over := len(m.waits) - waiting; over > 0 {
			m.waits = m.waits[over:]
			m.waits[0].Missed = true
		}
		return m.storeAll(ctx)
	}
	if err := m.load(); err != nil {
		return err
	}
	m.shown = r
	return m.store(ctx, r)
}

// again takes a total once more that was told before, about once a minute: a device
// that is heard and tells its total only when it changes has shown that it did not.
func (m *member) again(ctx context.Context) {
	m.taking.Lock()
	defer m.taking.Unlock()
	last, now := m.meter.Last(), time.Now()
	if !m.loaded || m.shown.Value != Total || m.shown.At.IsZero() || now.Sub(last.At) < markEvery {
		return
	}
	r := m.shown
	r.At = now
	_ = m.store(ctx, r) // the status tells
}

// awaits says that the same waits already, sent before by a device that goes on
// sending until it is stored.
func (m *member) awaits(r Reading) bool {
	return r.Stamp != "" && (r.Once == 0 || r.Value == Delta) && slices.ContainsFunc(m.waits, func(w Reading) bool { return w.Stamp == r.Stamp })
}

// storeAll stores what waits, in order.
func (m *member) storeAll(ctx context.Context) error {
	if err := m.load(); err != nil {
		return err
	}
	for len(m.waits) > 0 {
		if err := m.store(ctx, m.waits[0]); err != nil {
			return err
		}
		m.waits = m.waits[1:]
	}
	return nil
}

// load makes sure that the meter is the one on disk. What was thought not to be
// stored, and is, does not wait any longer.
func (m *member) load() error {
	if m.loaded {
		return nil
	}
	mark, err := m.books.marks(m.config.ID)
	var meter Meter
	if err == nil {
		meter, err = NewMeter(mark, m.poll)
	}
	if err != nil {
		code, hint := "mark", "the counter goes on counting; its passes come when the store can be read"
		if m.unstored {
			code, hint = "unstored", unstoredHint
		}
		m.set(device.Online, code, err, hint)
		return err
	}
	meter.Rate = m.config.Rate
	if m.unstored && meter.taken > m.meter.taken && len(m.waits) > 0 {
		m.waits = m.waits[1:]
	}
	m.meter, m.loaded = meter, true
	return nil
}

func (m *member) store(ctx context.Context, r Reading) error {
	next, update := m.meter.Next(r)
	update.At = time.Now().Round(0)
	p := &update.Pass
	p.Device, p.Door = m.config.ID, m.config.Door
	p.From, p.To = p.From.Round(0), p.To.Round(0) // what is stored has no monotonic clock
	if m.config.Swap {
		p.In, p.Out = p.Out, p.In
	}
	leveled := update.Level != nil && (m.level == nil || *m.level != *update.Level)
	matters := p.In+p.Out > 0 || p.Uncertain || leveled || update.Note != "" && update.Note != Duplicate
	if matters || m.unstored || r.At.Sub(m.stored) >= markEvery {
		if err := m.books.sink(ctx, update); err != nil {
			// Whether the store took it is not known: go on from what it holds.
			m.loaded, m.unstored = false, true
			m.set(device.Online, "unstored", err, unstoredHint)
			return err
		}
		m.stored, m.unstored = r.At, false
	}
	m.meter, m.level = next, update.Level
	m.note(r, update)
	return nil
}

// note brings the status up to date after an update was stored.
func (m *member) note(r Reading, update Update) {
	m.mu.Lock()
	s, last := &m.status, m.meter.Last()
	s.LastReading = last.At
	if r.Value == Total {
		s.In, s.Out = last.In, last.Out
		if m.config.Swap {
			s.In, s.Out = s.Out, s.In
		}
	} else {
		s.In, s.Out = s.In+update.Pass.In, s.Out+update.Pass.Out
	}
	if update.Pass.In+update.Pass.Out > 0 {
		s.LastPass = update.Pass.To
	}
	anew := func(level slog.Level) {
		m.books.log.Log(context.Background(), level, "counter began anew", "device", s.ID, "kind", s.Kind, "note", string(update.Note), "in", s.In, "out", s.Out)
	}
	switch update.Note {
	case Reset:
		s.Resets++
		anew(slog.LevelWarn)
	case Rollover:
		s.Rollovers++
		anew(slog.LevelInfo) // as it should
	case Rebased:
		s.Rebases++
		anew(slog.LevelWarn)
	case Gap:
		s.Gaps++
	case Duplicate:
		s.Duplicates++
	}
	c := m.complaint
	m.mu.Unlock()
	m.set(device.Online, c.code, nil, c.hint)
}

// complaint is what a counter says of itself while it goes on counting, as blocked
// or battery; it outlasts readings.
type complaint struct{ code, hint string }

// alive says that a counter has given a sign of life, and what it complains of: a
// code with a hint, or "" for nothing. What the store has to say goes first.
func (m *member) alive(code, hint string) {
	m.mu.Lock()
	m.heard, m.complaint = time.Now(), complaint{code, hint}
	stored := m.status.Code != "unstored" && m.status.Code != "mark"
	m.mu.Unlock()
	if stored {
		m.set(device.Online, code, nil, hint)
	}
}

// complains gives the code of what it complains of.
func (m *member) complains() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.complaint.code
}

// hear says that the counter gave a sign of life.
func (m *member) hear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard = time.Now()
}

// count changes the figures of the status.
func (m *member) count(f func(*Status)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.status)
}

// snapshot is the status now. A counter that speaks by itself falls silent
// without anybody noticing but by the time that has passed.
func (m *member) snapshot(now time.Time) Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	due := s.State == device.Online || s.State == device.Waiting && s.Code == ""
	if m.patience > 0 && due && now.Sub(m.heard) > m.patience {
		s.State, s.Code, s.Since = device.Wedged, "silent", m.heard.Add(m.patience)
		s.Err = "nothing came for " + m.patience.String()
		s.Hint = "check the device's power and its way to this machine, and that it is set to this address"
	}
	return s
}

// set changes a counter's state, and logs it only when it changes.
func (m *member) set(state device.State, code string, err error, hint string) {
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
		m.books.log.Info("counter is read", "device", s.ID, "kind", s.Kind)
	case code != "line": // the line itself speaks of that
		m.books.log.Warn("counter is in trouble", "device", s.ID, "kind", s.Kind, "code", code, "err", err)
	}
}

// state gives the state alone.
func (m *member) state() device.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status.State
}
