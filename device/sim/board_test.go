package sim_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/idcard"
)

// A reader behind a board is read by the kind that knows the board, and by no
// other.
func TestReaderBehindABoard(t *testing.T) {
	card, name := madeUp(t, 4)
	for kind, want := range map[string]string{"sam-55aa": name, "sam": ""} {
		synctest.Test(t, func(t *testing.T) {
			events := make(chan idcard.Event, 10)
			reader, err := idcard.NewReader(idcard.Config{ID: "rd-07", Kind: kind, Baud: 115200},
				func(_ context.Context, e idcard.Event) { events <- e }, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			host, dev := net.Pipe()
			module := sim.NewReader(sim.ReaderOptions{})
			module.Lay(card)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 2)
			go func() { ended <- module.Serve(ctx, sim.Board(dev)) }()
			go func() { ended <- reader.Use(ctx, host, func() {}) }()
			time.Sleep(3 * time.Second)
			cancel()
			host.Close()
			<-ended
			<-ended
			got := ""
			for len(events) > 0 {
				if e := <-events; e.Type == idcard.CardRead {
					got += string(e.Card.Name)
				}
			}
			if c := reader.Status().Counts; got != want || want != "" && c != (idcard.Counts{}) {
				t.Errorf("kind %s read %q, %+v", kind, got, c)
			}
		})
	}
}
