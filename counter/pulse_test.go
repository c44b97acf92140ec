package counter_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
)

var contactLine = device.Address{Scheme: device.SchemePulse, Path: "/dev/ttyS0"}

// pulses runs a counter on contacts while the hall's life goes on.
func pulses(t *testing.T, s *store, settings *counter.Pulse, counts bool, life func(c *sim.Contacts, status func() counter.Status)) counter.Status {
	t.Helper()
	var last counter.Status
	synctest.Test(t, func(t *testing.T) {
		e, err := counter.NewOwner(contactLine, []counter.Config{{ID: "c", Kind: "pulse", Door: "D1", Settings: settings}}, 0, s.mark, s.sink, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		c := &sim.Contacts{Counts: counts}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Use(ctx, c, func() {}) }()
		time.Sleep(100 * time.Millisecond)
		life(c, func() counter.Status { return e.Status()[0] })
		time.Sleep(time.Second)
		last = e.Status()[0]
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
	return last
}

func TestPulses(t *testing.T) {
	gate := &counter.Pulse{In: "cts", Out: "dsr"}
	for name, test := range map[string]struct {
		settings *counter.Pulse
		life     func(c *sim.Contacts)
		in, out  uint64
		noise    bool
		lost     uint64 // undirected
	}{
		"one in": {gate, func(c *sim.Contacts) { c.Hold(device.CTS, 40*time.Millisecond) }, 1, 0, false, 0},
		"some both ways": {gate, func(c *sim.Contacts) {
			for range 5 {
				c.Hold(device.CTS, 60*time.Millisecond)
				time.Sleep(400 * time.Millisecond)
				c.Hold(device.DSR, 60*time.Millisecond)
				time.Sleep(400 * time.Millisecond)
			}
		}, 5, 5, false, 0},
		"both at once": {gate, func(c *sim.Contacts) {
			c.Set(device.CTS, true)
			c.Set(device.DSR, true)
			time.Sleep(50 * time.Millisecond)
			c.Set(device.CTS, false)
			c.Set(device.DSR, false)
		}, 1, 1, false, 0},
		"a worn relay": {gate, func(c *sim.Contacts) { c.Bounce(device.CTS, 50*time.Millisecond) }, 1, 0, true, 0},
		"a spike":      {gate, func(c *sim.Contacts) { c.Hold(device.CTS, 8*time.Millisecond) }, 0, 0, true, 0},
		"dead time": {gate, func(c *sim.Contacts) {
			c.Hold(device.CTS, 30*time.Millisecond)
			time.Sleep(50 * time.Millisecond)
			c.Hold(device.CTS, 30*time.Millisecond)
		}, 1, 0, false, 0},
		"after the dead": {gate, func(c *sim.Contacts) {
			c.Hold(device.CTS, 30*time.Millisecond)
			time.Sleep(200 * time.Millisecond)
			c.Hold(device.CTS, 30*time.Millisecond)
		}, 2, 0, false, 0},
		"somebody stays": {gate, func(c *sim.Contacts) { c.Hold(device.CTS, 30*time.Second) }, 1, 0, false, 0},
		"the contact drops out while somebody stays": {gate, func(c *sim.Contacts) {
			c.Hold(device.CTS, time.Second)
			time.Sleep(6 * time.Millisecond)
			c.Hold(device.CTS, time.Second)
		}, 1, 0, true, 0},
		"another debounce": {&counter.Pulse{In: "dcd", Debounce: 100 * time.Millisecond}, func(c *sim.Contacts) {
			c.Hold(device.DCD, 80*time.Millisecond)
			time.Sleep(time.Second)
			c.Hold(device.DCD, 120*time.Millisecond)
		}, 1, 0, true, 0},
		"the ring indicator": {&counter.Pulse{In: "ri"}, func(c *sim.Contacts) { c.Hold(device.RI, 40*time.Millisecond) }, 1, 0, false, 0},
		"a pair, in":         {pair, func(c *sim.Contacts) { c.Walk(device.CTS, device.DSR, 120*time.Millisecond) }, 1, 0, false, 0},
		"a pair, out":        {pair, func(c *sim.Contacts) { c.Walk(device.DSR, device.CTS, 120*time.Millisecond) }, 0, 1, false, 0},
		"a pair, both ways": {pair, func(c *sim.Contacts) {
			for range 3 {
				c.Walk(device.CTS, device.DSR, 50*time.Millisecond)
				time.Sleep(time.Second)
				c.Walk(device.DSR, device.CTS, 50*time.Millisecond)
				time.Sleep(time.Second)
			}
		}, 3, 3, false, 0},
		"one beam only": {pair, func(c *sim.Contacts) { c.Hold(device.CTS, time.Second) }, 0, 0, false, 0},
		"into both and back": {pair, func(c *sim.Contacts) {
			c.Set(device.CTS, true)
			time.Sleep(100 * time.Millisecond)
			c.Hold(device.DSR, 100*time.Millisecond)
			time.Sleep(100 * time.Millisecond)
			c.Set(device.CTS, false)
		}, 0, 0, false, 0},
		"to and fro and through": {pair, func(c *sim.Contacts) {
			c.Set(device.CTS, true)
			time.Sleep(100 * time.Millisecond)
			c.Hold(device.DSR, 100*time.Millisecond)
			time.Sleep(100 * time.Millisecond)
			c.Set(device.DSR, true)
			time.Sleep(100 * time.Millisecond)
			c.Set(device.CTS, false)
			time.Sleep(100 * time.Millisecond)
			c.Set(device.DSR, false)
		}, 1, 0, false, 0},
		"both beams at once": {pair, func(c *sim.Contacts) {
			c.Set(device.CTS, true)
			time.Sleep(5 * time.Millisecond)
			c.Set(device.DSR, true)
			time.Sleep(200 * time.Millisecond)
			c.Set(device.CTS, false)
			time.Sleep(100 * time.Millisecond)
			c.Set(device.DSR, false)
		}, 0, 0, false, 1},
	} {
		for _, counts := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				var s store
				st := pulses(t, &s, test.settings, counts, func(c *sim.Contacts, _ func() counter.Status) { test.life(c) })
				if in, out := s.sum("D1"); in != test.in || out != test.out || st.In != in || st.Out != out {
					t.Errorf("%d in, %d out, status %d and %d; want %d and %d", in, out, st.In, st.Out, test.in, test.out)
				}
				seen := test.noise && (counts || name != "a worn relay") // bounces shorter than a look show in counted edges only
				if st.Noise > 0 != seen || st.Undirected != test.lost {
					t.Errorf("%d spikes, %d without a way", st.Noise, st.Undirected)
				}
			})
		}
	}
}

var pair = &counter.Pulse{Pair: []string{"cts", "dsr"}}

// TestBlockedBeam covers a beam for longer than a minute, also while passes
// through another input are stored, and frees it.
func TestBlockedBeam(t *testing.T) {
	var s store
	st := pulses(t, &s, &counter.Pulse{In: "cts", Out: "dsr"}, false, func(c *sim.Contacts, status func() counter.Status) {
		c.Set(device.CTS, true)
		time.Sleep(59 * time.Second)
		if st := status(); st.Code != "" {
			t.Errorf("too soon: %q", st.Code)
		}
		time.Sleep(2 * time.Second)
		c.Hold(device.DSR, 50*time.Millisecond)
		time.Sleep(time.Second)
		if st := status(); st.Code != "blocked" || st.State != device.Online || st.Hint == "" {
			t.Errorf("blocked: %+v", st)
		}
		c.Set(device.CTS, false)
	})
	if in, out := s.sum("D1"); in != 1 || out != 1 || st.Code != "" {
		t.Errorf("%d in, %d out, code %q", in, out, st.Code)
	}
}

// TestPulsesWaitForTheStore counts while the store takes nothing, and while it
// says so of what it took.
func TestPulsesWaitForTheStore(t *testing.T) {
	var s store
	st := pulses(t, &s, &counter.Pulse{In: "cts"}, false, func(c *sim.Contacts, status func() counter.Status) {
		walk := func() {
			c.Hold(device.CTS, 50*time.Millisecond)
			time.Sleep(500 * time.Millisecond)
		}
		walk()
		s.fill(errors.New("disk full"))
		walk()
		walk()
		if st := status(); st.Code != "unstored" {
			t.Errorf("code %q", st.Code)
		}
		s.fill(nil)
		walk()
	})
	if in, _ := s.sum("D1"); in != 4 || st.Code != "" {
		t.Errorf("%d in of 4, code %q", in, st.Code)
	}
}

// TestPulsesAcrossARestart starts again with the stored mark: nothing that was
// counted comes twice, and the time between is uncertain.
func TestPulsesAcrossARestart(t *testing.T) {
	var s store
	uncertain := 0
	for range 3 {
		pulses(t, &s, &counter.Pulse{In: "cts"}, true, func(c *sim.Contacts, _ func() counter.Status) {
			c.Hold(device.CTS, 50*time.Millisecond)
		})
	}
	for _, n := range s.notes {
		if n == counter.Gap {
			uncertain++
		}
	}
	if in, _ := s.sum("D1"); in != 3 || uncertain != 2 || s.notes[0] != counter.First {
		t.Errorf("%d in of 3, notes %v", in, s.notes)
	}
}
