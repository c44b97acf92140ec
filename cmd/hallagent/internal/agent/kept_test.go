package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/outbox"
)

// TestKeptWithoutStore raises an alarm while nothing can be written: the list
// holds it as soon as it can, and the next run clears it.
func TestKeptWithoutStore(t *testing.T) {
	dir := t.TempDir()
	box := outbox.New(outbox.Options{
		Path: filepath.Join(dir, "visits.db"), Stream: visits,
		NewEpoch: (&boot{path: filepath.Join(dir, "boot")}).epoch, Log: slog.New(slog.DiscardHandler),
	})
	first := &kept{outbox: box, topics: map[string]bool{}}
	first.add("alarm/a")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { box.Run(ctx) })
	select {
	case <-box.Opened():
	case <-time.After(10 * time.Second):
		t.Fatal("the store does not open")
	}
	first.retry = time.Time{} // a while later
	first.add("alarm/a")      // it is renewed
	var listed []string
	if text, err := box.Mark(keptMark); err != nil || json.Unmarshal(text, &listed) != nil || !slices.Equal(listed, []string{"alarm/a"}) {
		t.Errorf("the list holds %q, %v", text, err)
	}

	second := &kept{outbox: box, topics: map[string]bool{"alarm/c": true}} // has raised c already
	obsolete, err := second.begin(ctx, []string{"status"}, "alarm/b", "alarm/c")
	if err != nil || !slices.Equal(obsolete, []string{"alarm/a", "alarm/b"}) {
		t.Errorf("the next run clears %q, %v", obsolete, err)
	}
}
