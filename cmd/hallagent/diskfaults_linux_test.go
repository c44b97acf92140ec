package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/outbox/disk"
	"github.com/hallagent/hallagent/sync/wire"
)

// backWithin is the promise after a disk is good again.
const backWithin = 30 * time.Second

// diskHall is a hall whose data folder lies on a disk that can fail. People pass
// its counters all the time.
type diskHall struct {
	*world
	disk     *disk.Disk
	broker   *mosquitto.Broker
	counters map[string]*sim.ModbusCounter
	c        *centre
	s        *subscriber
	passes   sync.WaitGroup
	stopped  chan struct{}

	mu      sync.Mutex
	slowest time.Duration // answer of /v1/hall or /healthz
	breaks  int           // alarms that began
	since   int64         // of the newest
	base    map[string][2]uint64
}

func newDiskHall(t *testing.T) *diskHall {
	d, dir := disk.Mount(t, 64<<20)
	b := mosquitto.Start(t, mosquitto.Options{})
	h := &diskHall{world: newWorld(t, b.URL), disk: d, broker: b, counters: map[string]*sim.ModbusCounter{}, stopped: make(chan struct{}),
		c: &centre{marks: map[string]uint64{}, sums: map[string][2]uint64{}}, base: map[string][2]uint64{}}
	h.folder = dir
	h.poll = 100 * time.Millisecond
	for _, door := range []string{"D1", "D2", "D3", "D4"} {
		h.counters["k-"+door] = h.addCounter(door, true)
	}
	h.configure(", acknowledge: central")
	h.s = subscribe(t, b.URL, func(s *subscriber, topic string, events []wire.Event) {
		h.c.receive(s, topic, events)
		var a wire.Alarm
		if topic == hall.Alarm("store_unusable", "visits") && json.Unmarshal(events[0].Data, &a) == nil && a.Active {
			h.mu.Lock()
			if now := a.Since.UnixNano(); now != h.since {
				h.breaks, h.since = h.breaks+1, now
			}
			h.mu.Unlock()
		}
	})
	return h
}

// people lets them pass until the test is over or rest is called, and asks the
// agent all the while.
func (h *diskHall) people() {
	for id, k := range h.counters {
		in, out := k.Totals()
		h.base[id] = [2]uint64{in, out}
	}
	h.passes.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond) // less than the 3 a second that a counter is believed
		defer tick.Stop()
		for n := uint64(0); ; n++ {
			select {
			case <-h.stopped:
				return
			case <-tick.C:
			}
			for _, k := range h.counters {
				k.Pass(1, n%2)
			}
		}
	})
	h.passes.Go(func() {
		client := &http.Client{Timeout: 5 * time.Second}
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-h.stopped:
				return
			case <-tick.C:
			}
			for _, path := range []string{"/v1/hall", "/healthz"} {
				began := time.Now()
				res, err := client.Get(h.url + path)
				if err == nil {
					if res.StatusCode != http.StatusOK {
						err = errors.New(res.Status)
					}
					res.Body.Close()
				}
				if err != nil {
					h.t.Errorf("%s: %v", path, err)
				}
				h.mu.Lock()
				h.slowest = max(h.slowest, time.Since(began))
				h.mu.Unlock()
			}
		}
	})
	h.t.Cleanup(h.rest)
}

func (h *diskHall) rest() {
	select {
	case <-h.stopped:
	default:
		close(h.stopped)
	}
	h.passes.Wait()
}

// bad waits until everybody is told that the store takes nothing, and for that
// code.
func (h *diskHall) bad(code string) {
	h.t.Helper()
	eventually(h.t, 30*time.Second, "the agent is not ready: "+code, func() error {
		_, err := get(h.url + "/readyz")
		if err == nil {
			return errors.New("it is")
		}
		v, failed := h.hallView()
		if failed == nil && (v.Streams[0].Open || v.Streams[0].Code != code || v.Streams[0].Hint == "") {
			failed = fmt.Errorf("/v1/hall says %+v", v.Streams[0])
		}
		if failed == nil && !contains(err.Error(), "503", "store visits is not open: ", v.Streams[0].Err) {
			failed = fmt.Errorf("/readyz says %v", err)
		}
		return failed
	})
	h.alarm(true)
}

func (h *diskHall) alarm(active bool) {
	h.t.Helper()
	eventually(h.t, 15*time.Second, fmt.Sprint("the alarm is ", active), func() error {
		var a wire.Alarm
		_, err := h.s.last(hall.Alarm("store_unusable", "visits"), &a)
		if err == nil && a.Active != active {
			err = fmt.Errorf("it is %+v", a)
		}
		return err
	})
}

// stands wants the alarm to be one and the same for so long, and the store to take
// nothing.
func (h *diskHall) stands(how string, length time.Duration) {
	h.t.Helper()
	h.mu.Lock()
	before := h.breaks
	h.mu.Unlock()
	accepted := h.accepted()
	for deadline := time.Now().Add(length); time.Now().Before(deadline); {
		if _, err := get(h.url + "/readyz"); err == nil || !strings.Contains(err.Error(), "503") {
			h.t.Fatalf("%s: /readyz says %v", how, err)
		}
		var a wire.Alarm
		if _, err := h.s.last(hall.Alarm("store_unusable", "visits"), &a); err != nil || !a.Active {
			h.t.Fatalf("%s: the alarm is %+v, %v", how, a, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.breaks != before {
		h.t.Errorf("%s: the alarm began %d times", how, h.breaks-before+1)
	}
	if now := h.accepted(); now != accepted {
		h.t.Errorf("%s: %d records were accepted", how, now-accepted)
	}
}

func (h *diskHall) accepted() uint64 {
	m, err := get(h.url + "/metrics")
	if err != nil {
		h.t.Error(err)
	}
	return uint64(sampled(m, "hallagent_stream_accepted_total"))
}

// good waits until records are taken again.
func (h *diskHall) good(how string) {
	h.t.Helper()
	began, before := time.Now(), h.accepted()
	eventually(h.t, backWithin, how+" is over", func() error {
		if now := h.accepted(); now <= before {
			return fmt.Errorf("%d accepted", now)
		}
		_, err := get(h.url + "/readyz")
		return err
	})
	took := time.Since(began)
	h.alarm(false)
	h.t.Logf("%-22s records are taken again %v after the disk is good", how, took.Round(time.Millisecond))
}

// consumer takes the consumer away, or back: then it asks for what it missed.
func (h *diskHall) consumer(there bool) {
	h.t.Helper()
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.c.away = !there
	if !there {
		return
	}
	for epoch, mark := range h.c.marks {
		ask, err := json.Marshal(wire.Ack{Epoch: epoch, Upto: mark, Resend: true})
		if err != nil {
			h.t.Fatal(err)
		}
		session, err := h.s.Session(h.t.Context())
		if err != nil {
			h.t.Fatal(err)
		}
		h.s.Publish(session, hall.Ack("visits"), false, ask, func(err error) {
			if err != nil {
				h.t.Errorf("ask for records: %v", err)
			}
		})
	}
}

// whole wants the consumer to have what the counters counted, and books that
// balance.
func (h *diskHall) whole() {
	h.t.Helper()
	h.rest()
	eventually(h.t, 30*time.Second, "the consumer has what the counters counted", func() error {
		h.c.mu.Lock()
		defer h.c.mu.Unlock()
		for id, k := range h.counters {
			in, out := k.Totals()
			if want := [2]uint64{in - h.base[id][0], out - h.base[id][1]}; h.c.sums[id] != want {
				return fmt.Errorf("%s: %v of %v", id, h.c.sums[id], want)
			}
		}
		return h.balanced(1)
	})
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.c.gaps) > 0 || len(h.c.marks) != 1 {
		h.t.Errorf("gaps %v, epochs %v", h.c.gaps, h.c.marks)
	}
	if h.slowest > time.Second {
		h.t.Errorf("/v1/hall or /healthz took %v", h.slowest)
	}
	if !h.running() {
		h.t.Error("the agent ended")
	}
	h.t.Logf("%d records, %v; slowest answer of /v1/hall and /healthz %v", len(h.c.order), h.c.sums, h.slowest.Round(time.Millisecond))
}

// standing is how long each fault lasts once it is told.
func standing() time.Duration {
	if os.Getenv("HALLAGENT_TORTURE") != "" {
		return 40 * time.Second
	}
	return 0
}

// TestTortureDiskFaults fills the disk under a running hall, lets its writes fail
// and makes it read-only. Each time the hall says so, goes on by itself, and no
// pass is lost or counted twice.
func TestTortureDiskFaults(t *testing.T) {
	t.Parallel()
	h := newDiskHall(t)
	h.start()
	h.ready()
	eventually(t, 20*time.Second, "the counters are read", h.countersRead)
	h.people()
	eventually(t, 10*time.Second, "records arrive", func() error {
		h.c.mu.Lock()
		defer h.c.mu.Unlock()
		if len(h.c.order) == 0 {
			return errors.New("none")
		}
		return nil
	})
	h.consumer(false) // what it acknowledges would make room
	h.disk.Fill(0)
	h.bad("full")
	h.says(1, "ls", "no space left on device", "free space on it")
	h.says(1, "compact", "no space left on device")
	h.stands("full", 6*time.Second+standing()) // the disk is tried every 5 s
	h.disk.Free()
	h.good("full")
	h.consumer(true)
	for _, f := range []struct {
		code  string
		fault syscall.Errno
	}{{"io", syscall.EIO}, {"readonly", syscall.EROFS}} {
		h.disk.Fail(f.fault)
		h.bad(f.code)
		h.stands(f.code, time.Second+standing())
		h.disk.Fail(0)
		h.good(f.code)
	}
	h.whole()
	h.stop()
}

// TestDiskFaultyFromTheStart starts a hall again on a disk that takes nothing any
// more.
func TestDiskFaultyFromTheStart(t *testing.T) {
	t.Parallel()
	h := newDiskHall(t)
	h.start()
	h.ready()
	eventually(t, 20*time.Second, "the counters are read", h.countersRead)
	h.stop()
	h.disk.Fail(syscall.EROFS)
	h.start()
	eventually(t, 10*time.Second, "the pages are there", func() error { _, err := h.hallView(); return err })
	h.people()
	h.bad("readonly")
	h.stands("from the start", time.Second+standing())
	h.disk.Fail(0)
	began := time.Now()
	eventually(t, backWithin, "the agent is ready", func() error { _, err := get(h.url + "/readyz"); return err })
	t.Logf("ready %v after the disk is good", time.Since(began).Round(time.Millisecond))
	h.alarm(false)
	h.good("from the start")
	h.whole()
}
