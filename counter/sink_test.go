package counter_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/counter"
)

// TestBusSinkThatLies stores each third update and says that it did not, as a
// disk can whose last answer got lost. Nothing is counted twice.
func TestBusSinkThatLies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device, config := gate("gate-1", 1, "D1")
		var s store
		calls := 0
		sink := func(ctx context.Context, u counter.Update) error {
			err := s.sink(ctx, u)
			if calls++; calls%3 == 0 {
				err = errors.New("no answer from the disk")
			}
			return err
		}
		b, err := counter.NewBus(serialLine, []counter.Config{config}, 0, s.mark, sink, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		stop, _ := use(t, b, device)
		defer stop()
		time.Sleep(1500 * time.Millisecond) // the first reading is no pass
		for range 40 {
			device.Pass(2, 1)
			time.Sleep(700 * time.Millisecond)
		}
		time.Sleep(3 * time.Second)
		if in, out := s.sum("D1"); in != 80 || out != 40 {
			t.Errorf("%d in and %d out, of 80 and 40", in, out)
		}
	})
}

// TestBusRate believes a crowd at a door that is wide enough, and not at a
// narrow one.
func TestBusRate(t *testing.T) {
	for rate, want := range map[float64]uint64{0: 0, 3: 0, 60: 400} {
		synctest.Test(t, func(t *testing.T) {
			device, config := gate("gate-1", 1, "D1")
			config.Rate = rate
			var s store
			stop, _ := use(t, newBus(t, serialLine, &s, config), device)
			defer stop()
			time.Sleep(1500 * time.Millisecond)
			for range 40 {
				device.Pass(10, 0)
				time.Sleep(200 * time.Millisecond) // 50 a second
			}
			time.Sleep(3 * time.Second)
			if in, _ := s.sum("D1"); in != want {
				t.Errorf("at a rate of %v %d of 400 passed", rate, in)
			}
		})
	}
}
