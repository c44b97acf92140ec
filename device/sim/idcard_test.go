package sim_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/serial"
	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/idcard"
)

// meet is the driver with a channel at its end.
func meet(t *testing.T) (*idcard.Reader, <-chan idcard.Event) {
	t.Helper()
	events := make(chan idcard.Event, 100)
	r, err := idcard.NewReader(idcard.Config{ID: "rd-05", Kind: "sam", Window: "05"},
		func(_ context.Context, e idcard.Event) { events <- e }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r, events
}

func next(t *testing.T, events <-chan idcard.Event, want idcard.EventType) idcard.Event {
	t.Helper()
	select {
	case e := <-events:
		if e.Type != want {
			t.Fatalf("event %v, want %s (%v)", e, want, e.Trouble)
		}
		return e
	case <-time.After(20 * time.Second):
		t.Fatalf("no event, want %s", want)
	}
	return idcard.Event{}
}

func TestDriverReadsEveryCardOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader, events := meet(t)
		host, dev := net.Pipe()
		module := sim.NewReader(sim.ReaderOptions{Baud: 115200, Work: 300 * time.Millisecond})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- module.Serve(ctx, dev) }()
		go func() { ended <- reader.Use(ctx, host, func() {}) }()
		for n := range 30 {
			p := sim.MadeUp(n)
			card, err := p.Card()
			if err != nil {
				t.Fatal(err)
			}
			module.Lay(card)
			e := next(t, events, idcard.CardRead)
			if string(e.Card.Name) != p.Name || string(e.Card.IDNumber) != p.Number || !e.Card.IDNumberValid || len(e.Warnings) != 0 || [1024]byte(e.Photo) != card.Photo {
				t.Fatalf("card %d was read as another, or with warnings: %v", n, e.Warnings)
			}
			time.Sleep(5 * time.Second) // it lies there, and is not read again
			module.Lift()
			next(t, events, idcard.CardRemoved)
			time.Sleep(time.Second)
		}
		cancel()
		<-ended
		<-ended
		if len(events) != 0 {
			t.Errorf("%d events too many", len(events))
		}
	})
}

func TestDriverOverARealTerminal(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("pseudo terminals: linux only")
	}
	pty, err := sim.OpenPTY(filepath.Join(t.TempDir(), "ttyREADER"))
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan time.Time, 1)
	module := sim.NewReader(sim.ReaderOptions{Baud: 115200, Sent: func(f []byte, at time.Time) {
		if len(f) == 1295 {
			sent <- at
		}
	}})
	line, err := device.ParseAddress("serial://" + pty.Name)
	if err != nil {
		t.Fatal(err)
	}
	reader, events := meet(t)
	link := device.NewLink("window-05", serial.Dial(line), reader.Use, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- module.Serve(ctx, pty) }()
	go func() { ended <- link.Run(ctx) }()
	defer func() {
		cancel()
		for range 2 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
		}
	}()
	for n, card := range sim.Cards()[:3] {
		module.Lay(card)
		e := next(t, events, idcard.CardRead)
		if string(e.Card.IDNumber) != sim.Persons()[n].Number {
			t.Fatal("another card was read")
		}
		t.Logf("card event %v after the last byte", e.At.Sub(<-sent))
		if err := pty.Unplug(); err != nil {
			t.Fatal(err)
		}
		next(t, events, idcard.CardRemoved)
		module.Lift()
		if err := pty.Plug(); err != nil {
			t.Fatal(err)
		}
	}
}
