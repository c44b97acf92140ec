package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/device/sim/visitors"
)

const (
	dawn    = 8*time.Hour + 20*time.Minute // the demo's day begins
	stay    = 35 * time.Minute             // of a visitor, the mean
	service = 4 * time.Minute
	cardOn  = 1500 * time.Millisecond // real time a card lies on a reader
)

// hall is the simulated hall: its devices, and the people who use them.
type hall struct {
	speed    float64
	dir      string            // of the pseudo terminals' names
	urls     map[string]string // line -> where its device is
	readers  []*sim.Reader
	counters []passage
	serve    []func(context.Context) error
	shut     []func() error
}

// passage is a simulated counter as the hall sees it.
type passage interface {
	Pass(in, out uint64)
	Asked() uint64 // how often the agent was in touch with it
}

// newHall makes a simulated device for every line of the configuration.
func newHall(o options, cfg config.Config) (h *hall, err error) {
	h = &hall{speed: o.speed, urls: map[string]string{}}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	if h.dir, err = os.MkdirTemp("", "hallagent-tty-"); err != nil {
		return nil, fmt.Errorf("make a place for terminals: %w", err)
	}
	for _, r := range cfg.Readers {
		line, _ := cfg.LineOf(r.Line)
		if err := h.addReader(line, r.Kind); err != nil {
			return nil, err
		}
	}
	for _, line := range cfg.Lines {
		if line.URL.Scheme == device.SchemePulse {
			continue // see adapt
		}
		add := h.addCounters
		if line.URL.Listens() || line.URL.Scheme == device.SchemeHTTP {
			add = h.addSpeakers
		}
		if err := add(line, cfg.Counters); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h *hall) pty(line config.Line) (*sim.PTY, error) {
	pty, err := sim.OpenPTY(filepath.Join(h.dir, line.ID))
	if err != nil {
		return nil, err
	}
	h.shut = append(h.shut, pty.Close)
	address := line.URL.Address
	address.Path = pty.Name
	h.urls[line.ID] = address.String()
	return pty, nil
}

// listen takes the place of a device server for the line.
func (h *hall) listen(line config.Line) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for line %q: %w", line.ID, err)
	}
	h.shut = append(h.shut, l.Close)
	h.urls[line.ID] = "tcp://" + l.Addr().String()
	return l, nil
}

// addReader makes a reader that is slower than usual where its rate is to be found.
func (h *hall) addReader(line config.Line, kind string) error {
	r := sim.NewReader(sim.ReaderOptions{Baud: cmp.Or(line.URL.Baud, 57600)})
	h.readers = append(h.readers, r)
	if line.URL.Scheme == device.SchemeTCP {
		l, err := h.listen(line)
		if err != nil {
			return err
		}
		h.serve = append(h.serve, func(ctx context.Context) error { return r.ServeTCP(ctx, l) })
		return nil
	}
	pty, err := h.pty(line)
	if err != nil {
		return err
	}
	var port io.ReadWriteCloser = pty
	if kind == "sam-55aa" {
		port = sim.Board(pty)
	}
	h.serve = append(h.serve, func(ctx context.Context) error { return r.Serve(ctx, port) })
	return nil
}

func (h *hall) close() {
	for _, f := range h.shut {
		f() // what cannot be closed goes with the process
	}
	os.RemoveAll(h.dir)
}

// run serves the devices and lets one day after another pass.
func (h *hall) run(ctx context.Context, p *printer, m *manager) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	ended := make(chan error, len(h.serve))
	for _, serve := range h.serve {
		wg.Go(func() { ended <- serve(ctx) })
	}
	for i, r := range h.readers {
		wg.Go(func() { h.tellers(ctx, r, i) })
	}
	wg.Go(func() {
		for !h.watched() && wait(ctx, 100*time.Millisecond) {
		}
		for day := 1; ctx.Err() == nil; day++ {
			m.count(ctx, 0, "nobody is inside before opening")
			h.day(ctx, p, day)
		}
	})
	select {
	case err := <-ended:
		cancel()
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watched says that the agent reads every counter: who comes before that would
// be counted by nobody.
func (h *hall) watched() bool {
	return !slices.ContainsFunc(h.counters, func(c passage) bool { return c.Asked() < 2 })
}

// day lets the people of one day pass.
func (h *hall) day(ctx context.Context, p *printer, n int) {
	p.say("hall", "day %d begins at 08:20; %.0f s of it pass each second", n, h.speed)
	rnd := rand.New(rand.NewPCG(rand.Uint64(), 1))
	day := visitors.Hall{Visitors: 620, Stay: stay, Shares: visitors.Shares(len(h.counters), 0.7)}.Day(rnd)
	start := time.Now()
	for _, q := range day.Passes {
		if !wait(ctx, time.Until(start.Add(time.Duration(float64(q.At-dawn)/h.speed)))) {
			return
		}
		if q.In {
			h.counters[q.Door].Pass(uint64(q.Group), 0)
		} else {
			h.counters[q.Door].Pass(0, uint64(q.Group))
		}
	}
	p.say("hall", "day %d is over", n)
	wait(ctx, 5*time.Second)
}

// tellers serves one window: a card is laid down, read, and taken back.
func (h *hall) tellers(ctx context.Context, r *sim.Reader, window int) {
	pause := max(time.Duration(float64(service)/h.speed), 2*cardOn)
	for n := window; wait(ctx, time.Duration(float64(pause)*(0.5+math.Abs(rand.NormFloat64())))); n += len(h.readers) {
		kind := sim.Kinds()[max(0, n%12-7)] // two in three are residents
		card, err := sim.MadeUpOf(kind, n).Card()
		if err != nil {
			panic(err) // made-up persons always fit
		}
		r.Lay(card)
		wait(ctx, cardOn)
		r.Lift()
	}
}

// wait says whether the time passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return ctx.Err() == nil
	}
}
