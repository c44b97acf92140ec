package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// diary notes who started and stopped when.
type diary struct {
	mu    sync.Mutex
	notes []string
}

func (d *diary) write(note string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notes = append(d.notes, note)
}

// part runs until it is stopped and then takes its time.
func (d *diary) part(name string) part {
	return part{name, func(ctx context.Context) error {
		d.write("+" + name)
		<-ctx.Done()
		time.Sleep(time.Second)
		d.write("-" + name)
		return ctx.Err()
	}}
}

func (d *diary) at(note string) int { return slices.Index(d.notes, note) }

func TestClimb(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Minute, cancel)
		err := climb(ctx,
			floor{parts: []part{d.part("store")}, enter: func(context.Context) { time.Sleep(time.Second); d.write("opened") }},
			floor{parts: []part{d.part("uplink")}, leave: func() { d.write("flush") }},
			floor{parts: []part{d.part("line"), d.part("lan")}},
		)
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for _, pair := range [][2]string{
			{"+store", "opened"}, {"opened", "+uplink"}, {"opened", "+line"},
			{"-line", "flush"}, {"-lan", "flush"}, {"flush", "-uplink"}, {"-uplink", "-store"},
		} {
			if a, b := d.at(pair[0]), d.at(pair[1]); a < 0 || b < 0 || a > b {
				t.Errorf("%s does not come before %s: %v", pair[0], pair[1], d.notes)
			}
		}
	})
}

func TestClimbPartFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		broken := errors.New("broken")
		err := climb(context.Background(),
			floor{parts: []part{d.part("store")}},
			floor{parts: []part{d.part("lan"), {"line x", func(context.Context) error { time.Sleep(time.Second); return broken }}}},
		)
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "line x") {
			t.Errorf("error is %v", err)
		}
		if d.at("-lan") < 0 || d.at("-store") < d.at("-lan") {
			t.Errorf("stopped in the order %v", d.notes)
		}
		err = climb(context.Background(), floor{parts: []part{{"quitter", func(context.Context) error { return nil }}}})
		if !errors.Is(err, errEnded) {
			t.Errorf("a part that just ends gives %v", err)
		}
	})
}
