package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/wire"
)

const (
	counterLines = 4
	onEachLine   = 4
	counterCPU   = 2.0 // per cent of one core
	passLimit    = 1700 * time.Millisecond
	walks        = 120 // passes that are timed
	quietTime    = 30 * time.Second
)

// addBus puts counters on one line, each at a door of its own: on a terminal at
// 9600 baud, or on TCP.
func (w *world) addBus(name string, tcp bool) (all []*sim.ModbusCounter) {
	w.t.Helper()
	for n := range onEachLine {
		all = append(all, sim.NewModbusCounter(sim.ModbusOptions{Station: byte(n + 1), In: registers.in, Out: registers.out, Baud: 9600}))
	}
	w.addLine("l-"+name, w.serveModbus(name, tcp, 9600, all...))
	for n := range all {
		w.addKind(fmt.Sprintf("k-%s-%d", name, n+1), "modbus", "l-"+name, fmt.Sprintf("station: %d, %s", n+1, registerMap))
	}
	return all
}

// BenchmarkRatioCounters runs sixteen counters on four lines, two of them serial
// at 9600 baud, read every second by the built program: its processor time while
// somebody passes each door every ten seconds, and from a pass to the occupancy at
// a subscriber of the broker.
func BenchmarkRatioCounters(b *testing.B) {
	if runtime.GOOS != "linux" {
		b.Skip("pseudo terminals: linux only")
	}
	broker := mosquitto.Start(b, mosquitto.Options{})
	w := newWorld(b, broker.URL)
	w.poll = time.Second
	var all []*sim.ModbusCounter
	for n := range counterLines {
		all = append(all, w.addBus(fmt.Sprintf("b%d", n), n%2 == 1)...)
	}
	w.configure("")
	arrived := make(chan uint64, 1024) // total in, as it came
	subscribe(b, broker.URL, func(_ *subscriber, topic string, events []wire.Event) {
		var o wire.Occupancy
		if topic == hall.Occupancy() && json.Unmarshal(events[0].Data, &o) == nil {
			arrived <- o.In
		}
	})
	w.start()
	w.ready()
	eventually(b, 20*time.Second, "all counters have been read", w.countersRead)
	var took []time.Duration
	var used, watched, quiet time.Duration
	for b.Loop() {
		if len(took) > 0 {
			continue // one run holds all the walks
		}
		before := w.cpu(b)
		time.Sleep(quietTime)
		quiet = w.cpu(b) - before
		cpu, begun := w.cpu(b), time.Now()
		took = walkAll(b, all, arrived)
		used, watched = w.cpu(b)-cpu, time.Since(begun)
	}
	report(b, "16 counters on 4 lines, nobody passes, per cent of a core", "percent", 100*quiet.Seconds()/quietTime.Seconds(), counterCPU, 1)
	report(b, "16 counters on 4 lines, 95 passes a minute, per cent of a core", "percent", 100*used.Seconds()/watched.Seconds(), counterCPU, 1)
	for _, p := range []int{50, 99} {
		report(b, fmt.Sprintf("a pass to occupancy at the broker, p%d of %d", p, len(took)), "ms", percentile(took, p).Seconds()*1000, passLimit.Seconds()*1000, 1)
	}
}

// walkAll lets one person after the other pass and times the news of each.
func walkAll(b *testing.B, all []*sim.ModbusCounter, arrived <-chan uint64) (took []time.Duration) {
	var walked []time.Time // by the total in that it makes
	base, known := uint64(0), false
	seen := uint64(0)
	tick := time.NewTicker(625*time.Millisecond + 7*time.Millisecond) // drifts through the period of the readings
	defer tick.Stop()
	timeout := time.After(3 * time.Minute)
	for seen < walks {
		select {
		case <-tick.C:
			if known && len(walked) < walks {
				walked = append(walked, time.Now())
				all[(len(walked)*7)%len(all)].Pass(1, 0)
			}
		case in := <-arrived:
			now := time.Now()
			if !known {
				base, known = in, true
			}
			for ; seen < in-base; seen++ {
				took = append(took, now.Sub(walked[seen]))
			}
		case <-timeout:
			b.Fatalf("%d of %d passes arrived", seen, walks)
		}
	}
	return took
}
