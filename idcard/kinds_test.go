package idcard

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/device/transcript"
)

// Every kind brings a line of documentation, a transcript that its real reader
// plays through to a card and its removal, and a seed for the fuzzing of frames.
func TestKinds(t *testing.T) {
	if err := Kinds().Check(); err != nil {
		t.Error(err)
	}
	for _, k := range Kinds() {
		t.Run(k.Name, func(t *testing.T) {
			file, err := os.Open(filepath.Join("testdata", k.Name+".transcript"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			bursts, err := transcript.Parse(file)
			if err != nil {
				t.Fatal(err)
			}
			seed, err := os.ReadFile(filepath.Join("testdata", "fuzz", "FuzzFramer", k.Name))
			if err != nil || !strings.HasPrefix(string(seed), "go test fuzz v1\n") {
				t.Errorf("fuzz seed: %.20q, %v", seed, err)
			}
			for _, pace := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) { playKind(t, k, bursts, pace) })
			}
		})
	}
}

func playKind(t *testing.T, k Kind, bursts []transcript.Burst, pace bool) {
	var events []happening
	start := time.Now()
	r, err := NewReader(Config{ID: "rd-05", Kind: k.Name, Baud: 115200}, func(_ context.Context, e Event) {
		events = append(events, happening{e, time.Since(start)})
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	played := make(chan error, 1)
	go func() {
		played <- transcript.Player{Bursts: bursts, Pace: pace}.Play(t.Context(), far)
		far.Close()
	}()
	if err := r.Use(t.Context(), near, func() {}); !hungUp(err) {
		t.Errorf("Use = %v", err)
	}
	if err := <-played; err != nil {
		t.Error(err)
	}
	if got := names(events); got != "card removed" {
		t.Fatalf("events: %s", got)
	}
	if c := events[0].Card; !c.IDNumberValid || c.Name == "" {
		t.Errorf("the card of the transcript is not valid")
	}
	if s := r.Status(); s.Scans != 1 || s.SAMID == "" || s.Discarded != 0 {
		t.Errorf("status %+v", s)
	}
}

// A kind that wraps frames needs no more than its own Frames and Wrap.
func TestWrappingKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := vectorCardOf(t, "cn-01-plain")
		var events []happening
		r, err := NewReader(Config{ID: "rd-05", Kind: "sam"}, func(_ context.Context, e Event) { events = append(events, happening{Event: e}) }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r.kind.Wrap = func(p []byte) []byte { return append([]byte{0x55, 0xAA}, p...) }
		near, far := net.Pipe()
		defer near.Close()
		unwrapped, module := net.Pipe()
		go play(t, module, append(append([]step{}, hello...), found, selected, say(readCard, v.Response)))
		go func() { // the board: takes its head off, hands the rest to the module
			defer far.Close()
			p := make([]byte, 12)
			for {
				if n, err := far.Read(p); err != nil || n != 12 || p[0] != 0x55 || p[1] != 0xAA {
					return
				}
				if _, err := unwrapped.Write(p[2:]); err != nil {
					return
				}
				answer := make([]byte, 4096)
				n, err := unwrapped.Read(answer)
				if err != nil {
					return
				}
				far.Write(append([]byte{0x55, 0xAA}, answer[:n]...))
			}
		}()
		if err := r.Use(t.Context(), near, func() {}); !hungUp(err) {
			t.Errorf("Use = %v", err)
		}
		unwrapped.Close()
		if got := names(events); got != "card removed" {
			t.Errorf("events: %s", got)
		}
	})
}
