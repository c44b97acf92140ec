package uplink

import (
	"testing"
	"time"
)

// A line that carries so many bytes per second over so long a way: the window
// finds the throughput, fills the line, and lets no more than about a quarter of
// a second stand in its queue.
func TestWindowFindsTheLine(t *testing.T) {
	for _, c := range []struct {
		name      string
		rate      float64 // bytes per second
		roundTrip time.Duration
		message   int
	}{
		{"modem", 20_000, 100 * time.Millisecond, 500},
		{"satellite", 100_000, 600 * time.Millisecond, 2000},
		{"cellular", 1_000_000, 60 * time.Millisecond, 16_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w window
			now := time.Unix(0, 0)
			free := now // when the line has carried what is in its queue
			type packet struct {
				f  *flight
				at time.Time
			}
			var on []packet
			var carried int64
			for end := now.Add(time.Minute); now.Before(end); {
				for w.open() {
					free = later(free, now).Add(time.Duration(float64(c.message) / c.rate * float64(time.Second)))
					on = append(on, packet{w.send(c.message, now), free.Add(c.roundTrip)})
				}
				now = on[0].at
				w.confirm(on[0].f, now)
				on = on[1:]
				carried += int64(c.message)
			}
			if used := float64(carried) / 60 / c.rate; used < 0.9 {
				t.Errorf("%.0f %% of the line used", used*100)
			}
			if w.throughput < 0.8*c.rate || w.throughput > 1.3*c.rate {
				t.Errorf("measured %.0f bytes per second of %.0f", w.throughput, c.rate)
			}
			queue := time.Duration(float64(w.bytes)/c.rate*float64(time.Second)) - c.roundTrip
			if queue > 500*time.Millisecond {
				t.Errorf("%v stand in the queue", queue)
			}
		})
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func TestMeter(t *testing.T) {
	var m meter
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	if r := m.rate(at(100)); r != 0 {
		t.Errorf("rate before anything: %v", r)
	}
	for s := int64(100); s < 130; s++ {
		m.add(7, at(s))
	}
	if r := m.rate(at(129)); r != 7 {
		t.Errorf("rate of seven each second: %v", r)
	}
	if r := m.rate(at(134)); r != 3.5 {
		t.Errorf("rate after five seconds of nothing: %v", r)
	}
	if r := m.rate(at(1000)); r != 0 {
		t.Errorf("rate after a long time of nothing: %v", r)
	}
	m.add(5, at(50))
	if r := m.rate(at(50)); r != 5 {
		t.Errorf("rate after the clock was set back: %v", r)
	}
}
