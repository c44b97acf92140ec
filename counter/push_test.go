package counter_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
)

// front is a line to which devices come, with its owner behind it: over pipes in
// virtual time, or over TCP.
type front struct {
	owner  counter.Owner
	store  *store
	log    *bytes.Buffer // all that was logged, debugging included
	ctx    context.Context
	served sync.WaitGroup

	mu    sync.Mutex
	heard int
}

// newFront makes one that serves until the test ends.
func newFront(t *testing.T, line device.Address, sink func(*store) counter.Sink, cs ...counter.Config) *front {
	t.Helper()
	f := &front{store: new(store), log: new(bytes.Buffer)}
	to := f.store.sink
	if sink != nil {
		to = sink(f.store)
	}
	var err error
	if f.owner, err = counter.NewOwner(line, cs, 0, f.store.mark, to, slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.ctx = ctx
	t.Cleanup(func() {
		cancel()
		f.served.Wait()
	})
	return f
}

// serve lets the owner use one connection.
func (f *front) serve(c net.Conn) {
	f.served.Go(func() {
		defer c.Close()
		f.owner.Use(f.ctx, c, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.heard++
		})
	})
}

// dial connects a device by a pipe.
func (f *front) dial(context.Context) (net.Conn, error) {
	dev, host := net.Pipe()
	f.serve(host)
	return dev, nil
}

// listen serves TCP on a free port, and gives the way to dial it.
func (f *front) listen(t *testing.T) (address string, dial func(context.Context) (net.Conn, error)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.serve(c)
		}
	})
	t.Cleanup(func() {
		l.Close()
		accepting.Wait()
	})
	return l.Addr().String(), func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
}

func (f *front) times() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heard
}

// status is that of the only counter.
func (f *front) status() counter.Status { return f.owner.Status()[0] }

// wants says what was counted at door D1.
func (f *front) wants(t *testing.T, in, out uint64) {
	t.Helper()
	if i, o := f.store.sum("D1"); i != in || o != out {
		t.Errorf("%d in, %d out were counted; want %d and %d", i, o, in, out)
	}
}

// noted says how often a note was stored.
func (f *front) noted(n counter.Note) (times int) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	for _, have := range f.store.notes {
		if have == n {
			times++
		}
	}
	return times
}

// liar stores each third update and says that it did not.
func liar(s *store) counter.Sink {
	var mu sync.Mutex
	calls := 0
	return func(ctx context.Context, u counter.Update) error {
		err := s.sink(ctx, u)
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls%3 == 0 {
			return errLost
		}
		return err
	}
}
