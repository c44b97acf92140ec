package agent

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/idcard"
)

func TestRatesThatWereRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rates.json")
	for text, want := range map[string]int{`{"window-05":9600}`: 9600, `{"window-05":-1}`: 0, `null`: 0, `{`: 0, ``: 0} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := readRates(path).known["window-05"]; got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if r := readRates(filepath.Join(path, "none")); r.known == nil || len(r.known) != 0 {
		t.Errorf("without a file: %+v", r.known)
	}
}

// settable is a line with a rate that may be anything.
type settable struct{ net.Conn }

func (settable) SetRate(int) error { return nil }

func TestRatesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader, err := idcard.NewReader(idcard.Config{ID: "rd-05", Kind: "sam", Auto: true}, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		a := &Agent{rates: readRates(filepath.Join(t.TempDir(), "rates.json")), readers: []readerOnLine{{line: "window-05", reader: reader}}}
		a.rates.known["window-06"] = 19200 // of a line that is not configured now
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { a.rememberRates(ctx) })
		time.Sleep(3 * remember)
		if _, err := os.Stat(a.rates.path); err == nil {
			t.Error("a file without anything found")
		}
		host, dev := net.Pipe()
		wg.Go(func() { sim.NewReader(sim.ReaderOptions{}).Serve(ctx, dev) })
		wg.Go(func() { reader.Use(ctx, settable{host}, func() {}) })
		time.Sleep(2 * remember)
		if got := readRates(a.rates.path).known; !maps.Equal(got, map[string]int{"window-05": 115200, "window-06": 19200}) {
			t.Errorf("kept: %v", got)
		}
		cancel()
		wg.Wait()
	})
}
