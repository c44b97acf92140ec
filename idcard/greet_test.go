package idcard

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/device"
)

// rated is a line with a rate, and a module that is heard at its own rate only.
type rated struct {
	net.Conn
	baud atomic.Int64
}

func (r *rated) SetRate(baud int) error { r.baud.Store(int64(baud)); return nil }

// module answers status and id at one rate, and rubbish at any other if noise.
// It is deaf for the first while after power-up.
func module(far net.Conn, line *rated, baud int64, deaf time.Duration, noise string) {
	start := time.Now()
	for {
		p := make([]byte, 64)
		n, err := far.Read(p)
		if err != nil {
			return
		}
		switch {
		case time.Since(start) < deaf:
		case line.baud.Load() != baud:
			io.WriteString(far, noise)
		case string(p[:n]) == string(askStatus.frame()):
			far.Write(answer(0x90))
		case string(p[:n]) == string(askSAMID.frame()):
			far.Write(answer(0x90, goodID...))
		default:
			far.Write(answer(0x80))
		}
	}
}

func TestRateIsFound(t *testing.T) {
	tests := map[string]struct {
		baud   int64
		first  int
		deaf   time.Duration
		noise  string
		within time.Duration
	}{
		"the usual one":            {115200, 0, 0, "", 100 * time.Millisecond},
		"the slowest":              {9600, 0, 0, "", 2300 * time.Millisecond},
		"with rubbish at others":   {19200, 0, 0, "\xF8\x00\xC0", 1800 * time.Millisecond},
		"remembered":               {9600, 9600, 0, "", 100 * time.Millisecond},
		"remembered, powering up":  {9600, 9600, 2 * time.Second, "", 2700 * time.Millisecond},
		"changed since":            {38400, 9600, 0, "", 2300 * time.Millisecond},
		"the usual, powering up":   {115200, 0, 1500 * time.Millisecond, "", 2200 * time.Millisecond},
		"not at any a SAM can set": {4800, 0, 0, "", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := NewReader(Config{ID: "rd-05", Kind: "sam", Auto: true, Baud: tt.first}, func(context.Context, Event) {}, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				for _, within := range []time.Duration{tt.within, 100*time.Millisecond + tt.deaf*4/3} { // the second time it is known
					near, far := net.Pipe()
					line := &rated{Conn: near}
					go module(far, line, tt.baud, tt.deaf, tt.noise)
					start, online := time.Now(), time.Duration(0)
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					stop := context.AfterFunc(ctx, func() { near.Close() })
					err := r.Use(ctx, line, func() {
						if online == 0 {
							online = time.Since(start)
						}
					})
					stop()
					cancel()
					far.Close()
					synctest.Wait()
					if tt.within == 0 {
						if !errors.Is(err, device.ErrSilent) || r.Status().Baud != 0 {
							t.Errorf("Use = %v, %d", err, r.Status().Baud)
						}
						return
					}
					if online == 0 || online > within+700*time.Millisecond*time.Duration(min(1, int(tt.deaf))) {
						t.Errorf("online after %v, want within %v; Use = %v", online, within, err)
					}
					if s := r.Status(); int64(s.Baud) != tt.baud || s.SAMID == "" {
						t.Errorf("status %+v", s)
					}
				}
			})
		})
	}
}

// A line without a rate is taken as it is.
func TestRateOfALineWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := NewReader(Config{ID: "rd-05", Kind: "sam", Auto: true}, func(context.Context, Event) {}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		defer near.Close()
		go play(t, far, append(append([]step{}, hello...), none))
		if err := r.Use(t.Context(), near, func() {}); !hungUp(err) || r.Status().SAMID == "" {
			t.Errorf("Use = %v, %+v", err, r.Status())
		}
	})
}

// What an agent that was killed left on the line is no answer to the greeting.
func TestLateAnswerBeforeTheGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, left := range []Frame{answer(0x41), answer(0x90, make([]byte, cardSize)...)} {
			_, events, err := raw(t, say(askStatus, left), say(askStatus, answer(0x90)), hello[1], hello[2], none)
			if len(events) > 0 || !hungUp(err) {
				t.Errorf("events: %s, Use = %v", names(events), err)
			}
		}
	})
}

func TestIdsThatDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := func(n byte) step { return say(askSAMID, answer(0x90, append([]byte{n}, goodID[1:]...)...)) }
		r, _, err := raw(t, hello[0], id(1), id(2), id(3), id(4), none)
		if !hungUp(err) || r.Status().SAMID != "" {
			t.Errorf("Use = %v, SAM id %s", err, r.Status().SAMID)
		}
		r, _, err = raw(t, hello[0], id(1), hush(askSAMID), settled, settled, settled, none)
		if !hungUp(err) || r.Status().SAMID != samID(goodID) {
			t.Errorf("Use = %v, SAM id %s", err, r.Status().SAMID)
		}
	})
}
