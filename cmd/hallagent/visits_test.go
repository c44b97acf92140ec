package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/wire"
)

func contains(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

// centre is the consumer of visits: it takes each (epoch, sequence) once, in
// order, and acknowledges what it has.
type centre struct {
	mu      sync.Mutex
	marks   map[string]uint64 // epoch -> sequence it has everything up to
	sums    map[string][2]uint64
	doubles int
	early   int // records that came before the one before them
	gaps    []string
	order   []wire.Event // records and gaps as they were taken
	away    bool         // it takes nothing
}

func (c *centre) receive(s *subscriber, topic string, events []wire.Event) {
	if topic != hall.Stream("visits") {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return
	}
	epoch := ""
	for _, e := range events {
		epoch = e.Epoch
		seq, err := strconv.ParseUint(e.Sequence, 10, 64)
		if err != nil {
			c.gaps = append(c.gaps, err.Error())
		}
		first := seq
		var g wire.Gap
		if e.Type == wire.TypeGap && json.Unmarshal(e.Data, &g) == nil && g.Epoch == e.Epoch {
			first = g.From
		}
		switch mark := c.marks[e.Epoch]; {
		case seq <= mark:
			c.doubles++
			continue
		case first > mark+1:
			c.early++ // the agent starts again at the mark with the next session
			continue
		}
		c.marks[e.Epoch] = seq
		c.order = append(c.order, e)
		if e.Type == wire.TypeGap {
			c.gaps = append(c.gaps, string(e.Data))
			continue
		}
		var v wire.Visit
		json.Unmarshal(e.Data, &v)
		sum := c.sums[v.Device]
		c.sums[v.Device] = [2]uint64{sum[0] + v.In, sum[1] + v.Out}
	}
	ack, _ := json.Marshal(wire.Ack{Epoch: epoch, Upto: c.marks[epoch]})
	s.Retain(hall.Ack("visits"), ack)
}

// TestTortureVisits lets counters turn while the broker and the agent are killed
// again and again. What the consumer adds up is what the counters counted: not
// one pass more, not one less, no sequence missing.
func TestTortureVisits(t *testing.T) {
	length, pause := 12*time.Second, 1500*time.Millisecond
	if os.Getenv("HALLAGENT_TORTURE") != "" {
		length, pause = 60*time.Second, 9*time.Second
	}
	b := mosquitto.Start(t, mosquitto.Options{})
	w := newWorld(t, b.URL)
	w.poll = 100 * time.Millisecond // more records in flight when the axe falls
	counters := map[string]*sim.ModbusCounter{"k-D1": w.addCounter("D1", true), "k-D2": w.addCounter("D2", false)}
	w.configure(", acknowledge: central")
	c := &centre{marks: map[string]uint64{}, sums: map[string][2]uint64{}}
	subscribe(t, b.URL, c.receive)
	w.start()
	w.ready()
	eventually(t, 20*time.Second, "both counters have been read", w.countersRead)
	start := map[string][2]uint64{}
	for id, k := range counters {
		in, out := k.Totals()
		start[id] = [2]uint64{in, out}
	}

	deadline := time.Now().Add(length)
	faults := time.NewTicker(pause)
	defer faults.Stop()
	passes := time.NewTicker(60 * time.Millisecond) // a rate that a door can have
	defer passes.Stop()
	kills := 0
	for time.Now().Before(deadline) || kills < 6 {
		select {
		case <-passes.C:
			for _, k := range counters {
				k.Pass(rand.Uint64N(2), rand.Uint64N(8)/7)
			}
		case <-faults.C:
			if kills++; kills > 6 {
				continue
			}
			if kills%2 == 1 {
				b.Kill()
				b.Restart()
			} else {
				w.kill()
				w.start()
			}
		}
	}
	eventually(t, 30*time.Second, "the consumer has what the counters counted", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		for id, k := range counters {
			in, out := k.Totals()
			want := [2]uint64{in - start[id][0], out - start[id][1]}
			if c.sums[id] != want {
				return fmt.Errorf("%s: consumer has %v, counter counted %v", id, c.sums[id], want)
			}
		}
		return nil
	})
	eventually(t, 10*time.Second, "everything is acknowledged", func() error {
		h, err := w.hallView()
		if err == nil && h.Streams[0].Pending > 0 {
			err = fmt.Errorf("%d pending", h.Streams[0].Pending)
		}
		return err
	})
	h, err := w.hallView()
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.marks) != 1 || c.marks[h.Streams[0].Epoch] != h.Streams[0].Last {
		t.Errorf("the consumer is at %v, the agent at %s/%d", c.marks, h.Streams[0].Epoch, h.Streams[0].Last)
	}
	if len(c.gaps) > 0 {
		t.Errorf("gaps: %v", c.gaps)
	}
	t.Logf("%d records, sums %v, %d duplicates dropped, %d came too early and again", h.Streams[0].Last, c.sums, c.doubles, c.early)
}

// TestStatusAndOccupancy kills the agent and starts it again, and looks at the
// broker as somebody who comes late.
func TestStatusAndOccupancy(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	w := newWorld(t, b.URL)
	gate := w.addCounter("D1", true)
	w.configure("")
	s := subscribe(t, b.URL, nil)
	status := func(want wire.AgentState) (got wire.Status) {
		t.Helper()
		eventually(t, 20*time.Second, "status is "+string(want), func() error {
			_, err := s.last(hall.Status(), &got)
			if err == nil && got.State != want {
				err = fmt.Errorf("it is %s %v", got.State, got.Reasons)
			}
			return err
		})
		return got
	}
	w.start()
	first := status(wire.Ready)
	gate.Pass(7, 2)
	right := func(s *subscriber) func() error {
		return func() error {
			var o wire.Occupancy
			e, err := s.last(hall.Occupancy(), &o)
			switch {
			case err != nil:
				return err
			case o.In != 7 || o.Out != 2 || o.People == nil || *o.People != 5 || *o.Low > 5 || *o.High < 5 || *o.Level != "idle":
				return fmt.Errorf("occupancy is %s", e.Data)
			case e.ExpiryTime == nil || e.ExpiryTime.Sub(e.Time) != wire.StateLife:
				return fmt.Errorf("it expires at %v", e.ExpiryTime)
			}
			return nil
		}
	}
	eventually(t, 5*time.Second, "occupancy is right", right(s))
	w.kill()
	lost := status(wire.Lost)
	if lost.Session != first.Session {
		t.Errorf("the will is of session %s, the birth of %s", lost.Session, first.Session)
	}
	eventually(t, 5*time.Second, "occupancy is right for a late subscriber, the agent being dead", right(subscribe(t, b.URL, nil)))
	w.start()
	if again := status(wire.Ready); again.Session <= first.Session {
		t.Errorf("session %s follows %s", again.Session, first.Session)
	}
	eventually(t, 5*time.Second, "occupancy is right after the restart", right(subscribe(t, b.URL, nil)))
	w.stop()
	status(wire.Stopping)
}

// TestForgottenDevice takes a device out of the configuration: at the next start
// what it left at the broker is cleared.
func TestForgottenDevice(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	w := newWorld(t, b.URL)
	w.addReader("05", sim.ReaderOptions{})
	w.addReader("06", sim.ReaderOptions{})
	w.configure("")
	w.start()
	seen := func(s *subscriber, id string) bool {
		_, err := s.last(hall.Device(id), new(wire.Device))
		return err == nil
	}
	first := subscribe(t, b.URL, nil)
	eventually(t, 10*time.Second, "both readers are told", func() error {
		if !seen(first, "rd-05") || !seen(first, "rd-06") {
			return fmt.Errorf("not both")
		}
		return nil
	})
	w.stop()
	w.lines, w.readers = w.lines[:1], w.readers[:1]
	w.configure("")
	w.start()
	eventually(t, 10*time.Second, "the removed reader is forgotten", func() error {
		s := subscribe(t, b.URL, nil)
		eventually(t, 5*time.Second, "the other one is told", func() error {
			_, err := s.last(hall.Device("rd-05"), new(wire.Device))
			return err
		})
		if seen(s, "rd-06") {
			return fmt.Errorf("it is still there")
		}
		return nil
	})
}

// TestSecondAgent starts the program beside one that runs, as happens when
// somebody tries it by hand: it ends, and the broker hears nothing of it.
func TestSecondAgent(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	w := newWorld(t, b.URL)
	w.configure("")
	w.start()
	w.ready()
	eventually(t, 5*time.Second, "the control socket is there", func() error {
		_, err := os.Stat(filepath.Join(w.data(), "control.sock"))
		return err
	})
	_, errs, code := command(t, "run", "--config", w.file())
	if code != 1 || !strings.Contains(errs, "another hallagent") {
		t.Errorf("a second agent ends with %d and %q", code, errs)
	}
	var boot struct{ Boot int }
	text, err := os.ReadFile(filepath.Join(w.data(), "boot"))
	if err != nil || json.Unmarshal(text, &boot) != nil || boot.Boot != 1 {
		t.Errorf("it counted as a start: %s, %v", text, err)
	}
}
