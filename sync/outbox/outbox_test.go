package outbox

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"
)

// start runs an outbox in a folder of its own, or at o.Path, for as long as the
// test lives, and waits until it is open.
func start(t testing.TB, o Options) *Outbox {
	t.Helper()
	box, _ := startStop(t, o)
	return box
}

func startStop(t testing.TB, o Options) (*Outbox, func()) {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "visits.db")
	}
	if o.Stream == "" {
		o.Stream = "visits"
	}
	if o.NewEpoch == nil {
		o.NewEpoch = func() (string, error) { return "000001-9f3a77c2", nil }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	box := New(o)
	box.retry = 10 * time.Millisecond
	stop := run(t, box)
	select {
	case <-box.Opened():
	case <-time.After(10 * time.Second):
		t.Fatalf("not open: %+v", box.Status())
	}
	return box, stop
}

// run runs box until stop is called or the test ends.
func run(t testing.TB, box *Outbox) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- box.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}
