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

// The constants that the board's makers publish are frames of its kind.
func TestBoardFrames(t *testing.T) {
	for content, want := range map[string]string{"\x56\xFF\x08": "\x55\xAA\x04\x56\xFF\x08\x5A", "\x56\xFF\x18": "\x55\xAA\x04\x56\xFF\x18\x4A"} {
		if got := wrapBoard([]byte(content)); string(got) != want {
			t.Errorf("%X is wrapped as %X, want %X", content, got, want)
		}
	}
	good := wrapBoard(answer(0x90))
	tests := map[string]struct {
		input string
		want  int
		c     Counts
	}{
		"whole":                    {string(good), 1, Counts{}},
		"rubbish before":           {"\x00\x55\x13" + string(good), 1, Counts{Discarded: 3}},
		"half a mark before":       {"\x55" + string(good), 1, Counts{Discarded: 1}},
		"empty frame":              {"\x55\xAA\x01\xFE" + string(good), 1, Counts{Discarded: 4, BadLengths: 1}},
		"length zero":              {"\x55\xAA\x00" + string(good), 1, Counts{Discarded: 3, BadLengths: 1}},
		"wrong checksum":           {"\x55\xAA\x02\x00\x00" + string(good), 1, Counts{Discarded: 5, ChecksumErrors: 1}},
		"the board's own notice":   {string(wrapBoard([]byte("\x56\xFF\x08"))) + string(good), 1, Counts{Discarded: 3}},
		"echo of a request":        {string(wrapBoard(find.frame())) + string(good), 1, Counts{Echoes: 1}},
		"module's frame in pieces": {string(wrapBoard(answer(0x90)[:4])) + string(wrapBoard(answer(0x90)[4:])), 1, Counts{}},
	}
	for name, tt := range tests {
		for _, cut := range []int{1, 2, 3, 64} {
			frames, o := frameWith(new(boardFramer), []byte(tt.input), cut)
			if len(frames) != tt.want || o.counts != tt.c || o.pending != 0 {
				t.Errorf("%s, cut by %d: %d frames, %+v, pending %d; want %d, %+v", name, cut, len(frames), o.counts, o.pending, tt.want, tt.c)
			}
		}
	}
	var f boardFramer
	f.Feed(good[:len(good)-1])
	if f.Pending() == 0 {
		t.Error("half a frame is not pending")
	}
	f.Reset()
	if c := f.Counts(); f.Pending() != 0 || c.Discarded != uint64(len(good)-1) {
		t.Errorf("pending %d, %+v after a reset", f.Pending(), c)
	}
}
