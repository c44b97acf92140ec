package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/outbox"
	"github.com/hallagent/hallagent/sync/wire"
)

// copied is a hall whose data folder was copied after three people had come in,
// and whose agent was stopped when some more had. One more may wait in the copy.
type copied struct {
	*world
	broker *mosquitto.Broker
	gate   *sim.ModbusCounter
	centre *centre
	copy   string // of the data folder
	epoch  string // in use then and after it
	first  uint64 // of the records that came after the copy
	last   uint64
}

func copiedHall(t *testing.T, waits bool) *copied {
	t.Helper()
	b := mosquitto.Start(t, mosquitto.Options{Persistence: true})
	w := newWorld(t, b.URL)
	w.poll = 100 * time.Millisecond
	h := &copied{world: w, broker: b, gate: w.addCounter("D1", true), copy: filepath.Join(w.dir, "copy")}
	w.configure(", acknowledge: central")
	h.centre = &centre{marks: map[string]uint64{}, sums: map[string][2]uint64{}}
	subscribe(t, b.URL, h.centre.receive)
	h.run()
	h.pass(3)
	h.epoch, h.first = h.stands()
	if waits {
		h.leave(true)
		h.gate.Pass(1, 0)
		h.first++
		h.stored(h.first)
	}
	w.stop()
	h.leave(false)
	if err := os.CopyFS(h.copy, files(w.data())); err != nil {
		t.Fatal(err)
	}
	h.run()
	h.stands()
	for range 4 {
		h.pass(1)
	}
	_, h.last = h.stands()
	w.stop()
	return h
}

// run starts the agent and waits until it counts.
func (h *copied) run() {
	h.t.Helper()
	h.start()
	eventually(h.t, 20*time.Second, "the counter is read", h.countersRead)
}

// pass lets people in and waits until the centre has them.
func (h *copied) pass(people uint64) {
	h.t.Helper()
	before := h.came()
	h.gate.Pass(people, 0)
	eventually(h.t, 20*time.Second, "the passes arrive", func() error {
		if now := h.came(); now != before+people {
			return fmt.Errorf("%d came, not %d: %s", now, before+people, h.say())
		}
		return nil
	})
}

// leave lets the centre take nothing, or come back.
func (h *copied) leave(away bool) {
	h.centre.mu.Lock()
	defer h.centre.mu.Unlock()
	h.centre.away = away
}

// stored waits until so many records are on disk.
func (h *copied) stored(last uint64) {
	h.t.Helper()
	eventually(h.t, 10*time.Second, "what passes is on disk", func() error {
		v, err := h.hallView()
		if err == nil && v.Streams[0].Last != last {
			err = fmt.Errorf("at %d, not at %d", v.Streams[0].Last, last)
		}
		return err
	})
}

// came is how many came in as the centre adds them up.
func (h *copied) came() uint64 {
	h.centre.mu.Lock()
	defer h.centre.mu.Unlock()
	return h.centre.sums["k-D1"][0]
}

func (h *copied) say() string {
	h.centre.mu.Lock()
	defer h.centre.mu.Unlock()
	return fmt.Sprintf("%v, %d doubles, %d early", h.centre.marks, h.centre.doubles, h.centre.early)
}

// stands waits until all is acknowledged and gives the epoch and its last record.
func (h *copied) stands() (epoch string, last uint64) {
	h.t.Helper()
	eventually(h.t, 20*time.Second, "all is acknowledged", func() error {
		v, err := h.hallView()
		if err != nil {
			return err
		}
		if s := v.Streams[0]; s.Pending > 0 {
			return fmt.Errorf("%d pending of %s: %s", s.Pending, s.Epoch, h.say())
		} else {
			epoch, last = s.Epoch, s.Last
		}
		return nil
	})
	return epoch, last
}

// begins waits for a new epoch at the centre and wants it to begin with a gap that
// says that the store was put back.
func (h *copied) begins(to uint64) (epoch string) {
	h.t.Helper()
	var first wire.Event
	eventually(h.t, 20*time.Second, "a new epoch arrives", func() error {
		h.centre.mu.Lock()
		defer h.centre.mu.Unlock()
		i := slices.IndexFunc(h.centre.order, func(e wire.Event) bool { return e.Epoch != h.epoch })
		if i < 0 {
			return errors.New("only the old one")
		}
		first = h.centre.order[i]
		return nil
	})
	var g wire.Gap
	if err := json.Unmarshal(first.Data, &g); err != nil || first.Type != wire.TypeGap || first.Epoch <= h.epoch ||
		g.Epoch != h.epoch || !g.Open || g.Reason != outbox.ReasonRestore || g.From != to+1 || g.To != to {
		h.t.Errorf("the new epoch begins with %+v, %s", first, first.Data)
	}
	return first.Epoch
}

// told wants the alarm and the flag of a store that was put back.
func (h *copied) told() {
	h.t.Helper()
	alarmed(h.t, h.broker.URL, "store_replaced", true)
	late := subscribe(h.t, h.broker.URL, nil)
	eventually(h.t, 10*time.Second, "the alarm says what happened", func() error {
		var a wire.Alarm
		_, err := late.last(hall.Alarm("store_replaced", "visits"), &a)
		if err == nil && !contains(a.Text, "put back from an older copy") {
			err = errors.New(a.Text)
		}
		return err
	})
	if v, err := h.hallView(); err != nil || !v.Streams[0].Restored || v.Streams[0].Replaced {
		h.t.Errorf("/v1/hall says %+v, %v", v.Streams, err)
	}
}

// files is a folder without what is no regular file, such as the agent's socket.
func files(dir string) fs.FS { return regularFiles{os.DirFS(dir)} }

type regularFiles struct{ fs.FS }

func (f regularFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(f.FS, name)
	return slices.DeleteFunc(all, func(e fs.DirEntry) bool { return !e.IsDir() && !e.Type().IsRegular() }), err
}

// TestStorePutBack puts an older copy of the store alone in its place: the boot
// file knows that it has been further. A record that waited in the copy goes out
// again, and the stream goes on after it.
func TestStorePutBack(t *testing.T) {
	t.Parallel()
	for name, waits := range map[string]bool{"nothing waited": false, "a record waited": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			putBack(t, copiedHall(t, waits))
		})
	}
}

func putBack(t *testing.T, h *copied) {
	store := agent.StorePath(h.data(), "visits")
	text, err := os.ReadFile(filepath.Join(h.copy, filepath.Base(store)))
	if err == nil {
		err = os.WriteFile(store, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := h.came()
	h.run()
	epoch := h.begins(h.first)
	// The totals were put back with the store: what came after the copy counts once more.
	eventually(t, 10*time.Second, "the counter is caught up with", func() error {
		if now := h.came(); now != before+4 {
			return fmt.Errorf("%d came, %d before", now, before)
		}
		return nil
	})
	for n := range uint64(5) {
		h.pass(n + 1)
	}
	if now, last := h.stands(); now != epoch || h.came() != before+4+15 {
		t.Errorf("epoch %s to %d, %d came in all; the epoch began as %s", now, last, h.came(), epoch)
	}
	h.told()
}

// TestStoreFolderPutBack puts the whole data folder back: only the consumer knows that
// the store had been further. What passes before it can say so carries sequences
// that it has had, and is lost; that the gap is open tells so.
func TestStoreFolderPutBack(t *testing.T) {
	t.Parallel()
	h := copiedHall(t, false)
	h.broker.Kill() // with the consumer's word
	if err := errors.Join(os.RemoveAll(h.data()), os.CopyFS(h.data(), os.DirFS(h.copy))); err != nil {
		t.Fatal(err)
	}
	before := h.came()
	h.run()
	h.gate.Pass(2, 0)
	used := h.first + 2 // what came after the copy, once more, and these two people
	if used >= h.last {
		t.Fatalf("the consumer has only %d", h.last)
	}
	h.stored(used)
	h.broker.Restart()
	began := time.Now()
	epoch := h.begins(used)
	t.Logf("copied at %d, put back at %d, new epoch after %d, %v after the broker was back", h.first, h.last, used, time.Since(began).Round(time.Millisecond))
	for n := range uint64(5) {
		h.pass(n + 1)
	}
	if now, last := h.stands(); now != epoch || h.came() != before+15 {
		t.Errorf("epoch %s to %d, %d came in all; the epoch began as %s", now, last, h.came(), epoch)
	}
	h.told()
}
