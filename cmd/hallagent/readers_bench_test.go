package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/idcard"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

const (
	manyReaders = 20
	cpuLimit    = 3.0  // per cent of one core, no card on any reader
	memoryLimit = 40.0 // MiB, resident
	idleTime    = 10 * time.Second
	wireAim     = 1.05 // a whole read over its time on the wire

	neighbourLimit = 2 * time.Millisecond // more than before
	neighbourTurns = 3
	wireBytes      = 10 + 15 + 10 + 19 + 10 + readAnswer
)

// report makes one line of the table.
func report(b *testing.B, what, unit string, ours, limit, aim float64) {
	b.Run(what, func(b *testing.B) {
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(ours, "ours-"+unit)
		b.ReportMetric(limit, "limit-"+unit)
		b.ReportMetric(ours/limit, "ratio")
		b.ReportMetric(aim, "aim-max")
	})
}

func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	return d[(len(d)*p+99)/100-1]
}

// BenchmarkRatioReaders runs twenty readers at 115200 baud on one agent, the
// built program: its processor time and memory while they are empty, and from
// the last byte of a card to its workstation when cards are laid on all of them
// at once, without the time that the disk takes for an fsync.
func BenchmarkRatioReaders(b *testing.B) {
	broker := mosquitto.Start(b, mosquitto.Options{})
	w := newWorld(b, broker.URL)
	var windows []*benchWindow
	for n := range manyReaders {
		id := fmt.Sprintf("%02d", n+1)
		v := &benchWindow{id: id, sent: make(lastByte, 1)}
		v.reader, _ = w.addReader(id, sim.ReaderOptions{Baud: 115200, Sent: v.sent.note})
		windows = append(windows, v)
	}
	w.configure("")
	w.start()
	w.ready()
	for _, v := range windows {
		v.events = w.follow(v.id, w.pair(v.id))
	}
	time.Sleep(time.Second) // all greeted
	cpu := w.cpu(b)
	time.Sleep(idleTime)
	used := w.cpu(b) - cpu
	persons := sim.Persons()
	for b.Loop() {
		var wg sync.WaitGroup
		for n, v := range windows {
			wg.Go(func() { v.read(b, persons[n%len(persons)]) })
		}
		wg.Wait()
	}
	memory := w.resident(b)
	var took []time.Duration
	for _, v := range windows {
		took = append(took, v.took...)
	}
	disk := fsync(b, w.dir)
	report(b, "20 empty readers, per cent of a core", "percent", 100*used.Seconds()/idleTime.Seconds(), cpuLimit, 1)
	report(b, "20 readers, memory", "MiB", memory, memoryLimit, 1)
	report(b, fmt.Sprintf("20 cards at once, p99 of %d", len(took)), "ms", (percentile(took, 99)).Seconds()*1000, (cardLimit+disk).Seconds()*1000, 1)
	report(b, fmt.Sprintf("20 cards at once, p50 of %d", len(took)), "ms", (percentile(took, 50)).Seconds()*1000, (cardLimit+disk).Seconds()*1000, 1)
	b.Logf("fsync of 4 KiB: median %v; it is part of the limit of the cards", disk)
}

// BenchmarkRatioNeighbours measures what the troubles of one reader, cables pulled
// and answers lost, add to the time of a card on the others, the median.
func BenchmarkRatioNeighbours(b *testing.B) {
	if runtime.GOOS != "linux" {
		b.Skip("pseudo terminals: linux only")
	}
	var added []time.Duration
	for b.Loop() {
		if len(added) < neighbourTurns { // each takes seconds
			r := tormentReader(b, 3)
			added = append(added, max(r.loud-r.quiet, 0))
		}
	}
	report(b, fmt.Sprintf("while one reader is in trouble, p50 of %d", len(added)), "ms", percentile(added, 50).Seconds()*1000, neighbourLimit.Seconds()*1000, 1)
}

// cpu is the processor time that the agent has used.
func (w *world) cpu(b *testing.B) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.process.Process.Pid))
	if err != nil {
		b.Skip(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	ticks := 0
	for _, f := range fields[11:13] { // user and system, in hundredths of a second
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// resident is the agent's memory, in MiB.
func (w *world) resident(b *testing.B) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.process.Process.Pid))
	if err != nil {
		b.Skip(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

// fsync is what the machine takes to put a page on its disk, the median.
func fsync(b *testing.B, dir string) time.Duration {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var took []time.Duration
	page := make([]byte, 4096)
	for n := range 100 {
		start := time.Now()
		if _, err := f.WriteAt(page, int64(n)*4096); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	return percentile(took, 50)
}

// findTimer notes when the find was sent that a session sent last.
type findTimer struct {
	device.Conn
	mu   *sync.Mutex
	last *time.Time
}

func (c findTimer) Write(p []byte) (int, error) {
	if string(p) == string(idcard.Command(0x20, 0x01)) {
		c.mu.Lock()
		*c.last = time.Now()
		c.mu.Unlock()
	}
	return c.Conn.Write(p)
}

// BenchmarkRatioWholeRead measures find, select and read at 115200 baud against
// the time that their bytes take on the wire, ten bits each.
func BenchmarkRatioWholeRead(b *testing.B) {
	if runtime.GOOS != "linux" {
		b.Skip("pseudo terminals: linux only")
	}
	var mu sync.Mutex
	var found time.Time
	p, stop := newPost(b, "tty", sim.ReaderOptions{Baud: 115200, Exact: true}, func(dial device.Dial) device.Dial {
		return func(ctx context.Context) (device.Conn, error) {
			c, err := dial(ctx)
			return findTimer{c, &mu, &found}, err
		}
	})
	defer stop()
	card := sim.Cards()[0]
	var took []time.Duration
	for b.Loop() {
		for range 5 {
			p.module.Lay(card)
			e := <-p.events
			now := time.Now()
			if e.Type != idcard.CardRead {
				b.Fatalf("event %v", e)
			}
			mu.Lock()
			took = append(took, now.Sub(found))
			mu.Unlock()
			p.module.Lift()
			<-p.events
		}
	}
	wire := time.Duration(wireBytes) * 10 * time.Second / 115200
	report(b, fmt.Sprintf("at 115200 baud, p50 of %d", len(took)), "ms", percentile(took, 50).Seconds()*1000, wire.Seconds()*1000, wireAim)
	report(b, fmt.Sprintf("at 115200 baud, p95 of %d", len(took)), "ms", percentile(took, 95).Seconds()*1000, wire.Seconds()*1000, wireAim)
}
