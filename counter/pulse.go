package counter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
)

func pulseKind() Kind {
	return Kind{
		Kind: device.Kind{
			Name: "pulse",
			Doc:  "dry contacts on the modem lines of a serial port: the relay of a turnstile or a beam, one for each way or a pair that tells the way",
		},
		Sensor:   Beam,
		Schemes:  []string{device.SchemePulse},
		Settings: func() Settings { return new(Pulse) },
		hear:     hearPulses,
	}
}

// Pulse are the settings of kind pulse: which inputs a counter has and how long
// a contact must hold to be somebody. Either In or Out or both are contacts of
// their own, or Pair are two beams behind each other.
type Pulse struct {
	In   string   `yaml:"in"`   // cts, dsr, dcd or ri
	Out  string   `yaml:"out"`  // likewise
	Pair []string `yaml:"pair"` // [outer, inner]: who breaks the outer one first comes in

	Idle     string        `yaml:"idle"`     // open or closed: the contact while nobody passes; open if empty
	Debounce time.Duration `yaml:"debounce"` // a contact must hold so long; 15ms if 0
	Dead     time.Duration `yaml:"dead"`     // nothing counts so long after a pulse; 150ms if 0, for a pair 80ms
	Blocked  time.Duration `yaml:"blocked"`  // a contact that holds longer is a blocked beam; 60s if 0
}

const (
	lookEvery = 5 * time.Millisecond
	together  = 20 * time.Millisecond // two beams broken within this tell no way

	usualDebounce = 15 * time.Millisecond
	usualDead     = 150 * time.Millisecond // a person cannot pass a gate twice in it
	usualPairDead = 80 * time.Millisecond
	usualBlocked  = time.Minute
)

var inputNames = []string{device.CTS: "cts", device.DSR: "dsr", device.DCD: "dcd", device.RI: "ri"}

// inputs are the names of all inputs of the counter.
func (s *Pulse) inputs() (names []string) {
	for _, n := range append([]string{s.In, s.Out}, s.Pair...) {
		if n != "" {
			names = append(names, n)
		}
	}
	return names
}

// Check returns everything that is wrong with the settings.
func (s *Pulse) Check(device.Address) []Problem {
	var ps []Problem
	report := func(key, hint, cause string, args ...any) {
		ps = append(ps, Problem{Key: key, Cause: fmt.Sprintf(cause, args...), Hint: hint})
	}
	const hint = "cts, dsr, dcd or ri"
	names := s.inputs()
	switch {
	case len(names) == 0:
		report("in", "name the contact, as in: in: cts", "no input is named")
	case len(s.Pair) != 0 && (s.In != "" || s.Out != ""):
		report("pair", "leave out in and out: a pair tells the way by its order", "a pair stands beside in or out")
	case len(s.Pair) != 0 && len(s.Pair) != 2:
		report("pair", "two inputs, the outer one first, as in [cts, dsr]", "%d inputs are no pair", len(s.Pair))
	}
	for i, n := range names {
		if !slices.Contains(inputNames, n) {
			report("in", hint, "%q is no input", n)
		} else if slices.Contains(names[:i], n) {
			report("in", "each contact has an input of its own", "%s is named twice", n)
		}
	}
	if s.Idle != "" && s.Idle != "open" && s.Idle != "closed" {
		report("idle", "open or closed", "%q is not known", s.Idle)
	}
	between := func(key string, d, least, most time.Duration) {
		if d != 0 && (d < least || d > most) {
			report(key, fmt.Sprintf("%v to %v", least, most), "%v is out of range", d)
		}
	}
	between("debounce", s.Debounce, 5*time.Millisecond, 200*time.Millisecond)
	between("dead", s.Dead, 10*time.Millisecond, 2*time.Second)
	between("blocked", s.Blocked, time.Second, time.Hour)
	return ps
}

// Place is the inputs.
func (s *Pulse) Place() (key, value string) { return "in", strings.Join(s.inputs(), " and ") }

// Shares says which input of another counter of the same line is also one of this.
func (s *Pulse) Shares(_ device.Address, other Settings) (key, value string) {
	o, ok := other.(*Pulse)
	if !ok {
		return "", ""
	}
	for _, n := range s.inputs() {
		if slices.Contains(o.inputs(), n) {
			return "in", n
		}
	}
	return "", ""
}

// or is d, or what is usual if that is 0.
func or(d, usual time.Duration) time.Duration {
	if d == 0 {
		return usual
	}
	return d
}

// watcher makes passes of the inputs of one counter.
type watcher struct {
	member   *member
	contacts []*contact // in, out; or the pair
	inputs   []device.Input
	idle     bool // the level of the inputs while nobody passes
	path     *path
	dead     time.Duration
	blocked  time.Duration
	last     [2]time.Time // pulse of each contact that counted last
	blocking bool
}

func newWatcher(m *member) *watcher {
	s := m.config.Settings.(*Pulse)
	w := &watcher{member: m, blocking: m.complains() == "blocked", idle: s.Idle == "closed", dead: or(s.Dead, usualDead), blocked: or(s.Blocked, usualBlocked)}
	names := []string{s.In, s.Out}
	if len(s.Pair) == 2 {
		names, w.path, w.dead = s.Pair, &path{}, or(s.Dead, usualPairDead)
	}
	for _, n := range names {
		c := &contact{hold: or(s.Debounce, usualDebounce)}
		if n == "" {
			c = nil
		}
		w.contacts = append(w.contacts, c)
		w.inputs = append(w.inputs, device.Input(slices.Index(inputNames, n)))
	}
	return w
}

// look takes the inputs at one moment and gives the passes they make.
func (w *watcher) look(now time.Time, in device.Inputs) (passes []Reading) {
	var noise, undirected uint64
	var levels [2]bool
	var since [2]time.Time
	blocked := false
	for i, c := range w.contacts {
		if c == nil {
			continue
		}
		k := w.inputs[i]
		pulses, spikes := c.look(now, in.Active[k] != w.idle, in.Edges[k], in.Counted, k == device.RI)
		noise += spikes
		levels[i], since[i] = c.level, c.since
		blocked = blocked || c.level && now.Sub(c.since) > w.blocked
		if w.path == nil && pulses > 0 && now.Sub(w.last[i]) >= w.dead {
			w.last[i] = now
			passes = append(passes, pass(now, i == 0))
		}
	}
	if w.path != nil {
		switch w.path.step(levels, since) {
		case wayIn, wayOut:
			if now.Sub(w.last[0]) >= w.dead {
				w.last[0] = now
				passes = append(passes, pass(now, w.path.way == wayIn))
			}
		case wayUnknown:
			undirected++
		}
	}
	if noise+undirected > 0 {
		w.member.count(func(s *Status) { s.Noise, s.Undirected = s.Noise+noise, s.Undirected+undirected })
	}
	if blocked != w.blocking {
		w.blocking = blocked
		if blocked {
			w.member.alive("blocked", "see what stands in the beam, or whether the contact sticks; nobody is counted meanwhile")
		} else {
			w.member.alive("", "")
		}
	}
	return passes
}

func pass(at time.Time, in bool) Reading {
	if in {
		return Reading{Value: Event, At: at, In: 1}
	}
	return Reading{Value: Event, At: at, Out: 1}
}

// hearPulses looks at the inputs of an open port until it fails or ctx ends.
// Storing waits for the disk, looking must not, so they go side by side.
func hearPulses(ctx context.Context, c device.Conn, on *units) error {
	if _, err := device.ReadInputs(c); err != nil {
		return err
	}
	var watchers []*watcher
	for _, m := range on.ear.members {
		watchers = append(watchers, newWatcher(m))
	}
	type told struct {
		member  *member
		reading Reading
	}
	passes := make(chan told, waiting)
	var storing sync.WaitGroup
	defer storing.Wait()
	defer close(passes)
	storing.Go(func() {
		for p := range passes {
			_ = p.member.take(context.WithoutCancel(ctx), p.reading) // what is not stored waits; the status tells
		}
	})
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	alive := time.Time{}
	missed := false // readings found no room: the disk hangs
	tell := func(m *member, r Reading) {
		r.Missed = r.Missed || missed
		select {
		case passes <- told{m, r}:
			missed = false
		default:
			missed = true
		}
	}
	for {
		in, err := device.ReadInputs(c)
		now := time.Now()
		if err != nil {
			return err
		}
		on.heard()
		for _, w := range watchers {
			if now.Sub(alive) >= markEvery {
				tell(w.member, Reading{Value: Event, At: now, Missed: alive.IsZero()})
			}
			w.member.hear()
			for _, r := range w.look(now, in) {
				tell(w.member, r)
			}
		}
		if now.Sub(alive) >= markEvery {
			alive = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
