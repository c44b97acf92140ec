package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/idcard"
)

const (
	replugLimit = 3 * time.Second // from plugging in to the next card
	wedgeLimit  = 2 * time.Second // beyond the time limit of the command that was not answered
	neighbours  = 3               // readers that go on meanwhile
)

// post is a reader on a line of its own, driven by the agent's parts.
type post struct {
	module *sim.Reader
	pty    *sim.PTY
	reader *idcard.Reader
	link   *device.Link
	events chan idcard.Event
	sent   lastByte
}

// newPost sets a reader up at the usual pace, until stop. Wrap may change how its
// line is opened.
func newPost(t testing.TB, name string, o sim.ReaderOptions, wrap func(device.Dial) device.Dial) (p *post, stop func()) {
	t.Helper()
	pty, err := sim.OpenPTY(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	p = &post{pty: pty, events: make(chan idcard.Event, 100), sent: make(lastByte, 1)}
	o.Sent = p.sent.note
	p.module = sim.NewReader(o)
	address, err := device.ParseAddress("serial://" + pty.Name + "?baud=auto")
	if err != nil {
		t.Fatal(err)
	}
	p.reader, err = idcard.NewReader(idcard.Config{ID: name, Kind: "sam", Auto: true},
		func(_ context.Context, e idcard.Event) { p.events <- e }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p.link = device.NewLink(name, wrap(agent.Dial(address)), p.reader.Use, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.module.Serve(ctx, pty) })
	wg.Go(func() { p.link.Run(ctx) })
	return p, func() {
		cancel()
		wg.Wait()
		pty.Close()
	}
}

// next waits for an event of that type and gives when it came; others pass.
func (p *post) next(t testing.TB, want idcard.EventType, within time.Duration) (time.Time, bool) {
	limit := time.After(within)
	for {
		select {
		case e := <-p.events:
			if e.Type == want {
				return time.Now(), true
			}
		case <-limit:
			return time.Time{}, false
		}
	}
}

// work lays cards on and lifts them until ctx ends, and gives how long each took
// from its last byte to its event.
func (p *post) work(ctx context.Context, t testing.TB) (took []time.Duration) {
	cards := sim.Cards()
	for n := 0; ctx.Err() == nil; n++ {
		p.module.Lay(cards[n%len(cards)])
		at, ok := p.next(t, idcard.CardRead, 10*time.Second)
		if !ok {
			t.Errorf("%s: card was not read: %+v", p.reader.Status().ID, p.link.Status())
			return took
		}
		took = append(took, at.Sub(<-p.sent))
		p.module.Lift()
		if _, ok := p.next(t, idcard.CardRemoved, 10*time.Second); !ok {
			t.Errorf("%s: card does not go", p.reader.Status().ID)
			return took
		}
	}
	return took
}

// torment is what a reader's troubles come to.
type torment struct {
	replugs, wedges []time.Duration // until the reader was usable; of a wedge, beyond the command's limit
	quiet, loud     time.Duration   // the neighbours' median, before and meanwhile
	cards           int             // that the neighbours read meanwhile
	routines, files [2]int          // before and after
}

// tormentReader pulls the cable of one reader and lets answers of it get lost,
// so many times each, while its neighbours work.
func tormentReader(t testing.TB, rounds int) (r torment) {
	t.Helper()
	plain := func(dial device.Dial) device.Dial { return dial }
	victim, stop := newPost(t, "victim", sim.ReaderOptions{Baud: 115200}, plain)
	defer stop()
	var others []*post
	for _, name := range []string{"one", "two", "three"}[:neighbours] {
		p, stop := newPost(t, name, sim.ReaderOptions{Baud: 115200}, plain)
		defer stop()
		others = append(others, p)
	}
	working := func(during func()) (took []time.Duration) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, p := range others {
			wg.Go(func() {
				d := p.work(ctx, t)
				mu.Lock()
				took = append(took, d...)
				mu.Unlock()
			})
		}
		during()
		cancel()
		wg.Wait()
		return took
	}
	card := sim.Cards()[0]
	victim.module.Lay(card)
	if _, ok := victim.next(t, idcard.CardRead, 5*time.Second); !ok {
		t.Fatal("the victim does not work")
	}
	r.quiet = percentile(working(func() { time.Sleep(2 * time.Second) }), 50)
	runtime.GC()
	r.routines[0], r.files[0] = runtime.NumGoroutine(), openFiles(t)
	took := working(func() {
		for range rounds {
			r.replugs = append(r.replugs, victim.replug(t))
			r.wedges = append(r.wedges, victim.wedge(t, card))
		}
	})
	r.loud, r.cards = percentile(took, 50), len(took)
	victim.module.Lay(card)
	victim.next(t, idcard.CardRead, 5*time.Second)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if r.routines[1], r.files[1] = runtime.NumGoroutine(), openFiles(t); r.routines[1] <= r.routines[0] && r.files[1] <= r.files[0] {
			break
		}
	}
	return r
}

// replug pulls the cable with the card on the reader and puts it in again; the
// reader has lost its power meanwhile.
func (p *post) replug(t testing.TB) time.Duration {
	if err := p.pty.Unplug(); err != nil {
		t.Fatal(err)
	}
	if _, ok := p.next(t, idcard.CardRemoved, 5*time.Second); !ok {
		t.Error("the cable was pulled and the card did not go")
	}
	time.Sleep(rand.N(1500 * time.Millisecond))
	p.module.PowerOn()
	start := time.Now()
	if err := p.pty.Plug(); err != nil {
		t.Fatal(err)
	}
	at, ok := p.next(t, idcard.CardRead, 10*time.Second)
	if !ok {
		t.Errorf("not usable after a replug: %+v", p.link.Status())
	}
	return at.Sub(start)
}

// wedge lets one answer get lost, whichever comes next: to find, to select, to
// the read or to the test whether the card lies there. The time is what the next
// reading took beyond the limit of that command.
func (p *post) wedge(t testing.TB, card sim.Card) time.Duration {
	p.module.Lift()
	if _, ok := p.next(t, idcard.CardRemoved, 5*time.Second); !ok {
		t.Error("the card does not go")
	}
	limit := time.Second // of find, select and the test for presence
	commands := [][2]byte{{0x20, 0x01}, {0x20, 0x02}, {0x30, 0x01}, {0x30, 0x03}}
	command := commands[rand.IntN(len(commands))]
	p.module.ChangeMood(func(m *sim.Mood) { m.Force = []sim.Force{{Command: command, Times: 1}} })
	start := time.Now()
	p.module.Lay(card)
	switch command {
	case [2]byte{0x30, 0x01}:
		limit = 3*time.Second + 113*time.Millisecond // with the line's time
	case [2]byte{0x30, 0x03}: // read already; another card is what shows that it works
		p.next(t, idcard.CardRead, 5*time.Second)
		start = time.Now()
		p.module.Lay(card)
	}
	at, ok := p.next(t, idcard.CardRead, 15*time.Second)
	if !ok {
		t.Errorf("not usable after %X was not answered: %+v", command, p.link.Status())
	}
	return at.Sub(start) - limit
}

func openFiles(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(entries)
}

// TestTortureReader: 100 cables pulled and 100 answers lost; a few of each in
// the usual tests.
func TestTortureReader(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("pseudo terminals: linux only")
	}
	rounds := 3
	if os.Getenv("HALLAGENT_TORTURE") != "" {
		rounds = 100
	}
	r := tormentReader(t, rounds)
	for n := range rounds {
		if r.replugs[n] > replugLimit {
			t.Errorf("round %d: usable %v after the replug", n, r.replugs[n])
		}
		if r.wedges[n] > wedgeLimit {
			t.Errorf("round %d: usable %v after the limit of a lost answer", n, r.wedges[n])
		}
	}
	if r.routines[1] > r.routines[0] || r.files[1] > r.files[0] {
		t.Errorf("goroutines %v, files %v before and after", r.routines, r.files)
	}
	t.Logf("%d replugs: median %v, longest %v; %d lost answers: median %v, longest %v beyond the limit; "+
		"neighbours' median %v, meanwhile %v over %d cards; goroutines %v, files %v", rounds,
		percentile(r.replugs, 50), percentile(r.replugs, 100), rounds, percentile(r.wedges, 50), percentile(r.wedges, 100),
		r.quiet, r.loud, r.cards, r.routines, r.files)
}
