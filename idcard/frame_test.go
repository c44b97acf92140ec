package idcard

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// outcome is all that a Framer makes of an input.
type outcome struct {
	frames  string
	counts  Counts
	pending int
}

// frame feeds the input in pieces of the given sizes, the last of which is
// repeated to the end.
func frame(input []byte, sizes ...int) (frames []Frame, o outcome) {
	return frameWith(new(Framer), input, sizes...)
}

func frameWith(f Frames, input []byte, sizes ...int) (frames []Frame, o outcome) {
	for len(input) > 0 {
		n := min(max(sizes[0], 1), len(input))
		if len(sizes) > 1 {
			sizes = sizes[1:]
		}
		f.Feed(input[:n])
		input = input[n:]
		for g, ok := f.Next(); ok; g, ok = f.Next() {
			frames = append(frames, g)
		}
	}
	var all []string
	for _, g := range frames {
		all = append(all, string(g))
	}
	return frames, outcome{strings.Join(all, "|"), f.Counts(), f.Pending()}
}

func TestFramerVectors(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, v := range loadVectors(t).Malformed {
		t.Run(v.Name, func(t *testing.T) {
			frames, whole := frame(v.Input, len(v.Input)+1)
			want := []unhex{v.Input} // an outcome above the frame: the frame itself is good
			if v.Frames != nil {
				want = *v.Frames
			}
			if len(frames) != len(want) {
				t.Fatalf("%d frames, want %d", len(frames), len(want))
			}
			for i := range want {
				if !bytes.Equal(frames[i], want[i]) {
					t.Errorf("frame %d is %x, want %x", i, frames[i], want[i])
				}
			}
			if v.Discarded != nil && whole.counts.Discarded != *v.Discarded {
				t.Errorf("discarded %d bytes, want %d", whole.counts.Discarded, *v.Discarded)
			}
			checkOutcome(t, v.Outcome, v.Note, frames, whole)

			cuts := [][]int{{1}, {2}, {3}, {5}, {7}, {64}, {1, len(v.Input)}}
			if len(v.Chunks) > 0 {
				cuts = append(cuts, v.Chunks)
			}
			for range 50 {
				sizes := make([]int, 1+len(v.Input)/8)
				for i := range sizes {
					sizes[i] = 1 + random.IntN(40)
				}
				cuts = append(cuts, sizes)
			}
			for at := 1; at < len(v.Input); at++ {
				cuts = append(cuts, []int{at, len(v.Input)})
			}
			for _, sizes := range cuts {
				if _, o := frame(v.Input, sizes...); o != whole {
					t.Fatalf("cut in %v: %d frames and %+v, whole: %+v", sizes[:min(len(sizes), 5)], len(o.frames), o.counts, whole.counts)
				}
			}
		})
	}
}

func checkOutcome(t *testing.T, outcome, note string, frames []Frame, o outcome) {
	t.Helper()
	c := o.counts
	switch outcome {
	case "ok":
		if c.ChecksumErrors+c.BadLengths > 0 {
			t.Errorf("counts of a good line: %+v", c)
		}
	case "checksum_error", "checksum_error_then_ok":
		if c.ChecksumErrors != 1 {
			t.Errorf("%d checksum errors", c.ChecksumErrors)
		}
	case "bad_length":
		if c.BadLengths != 1 {
			t.Errorf("%d bad lengths", c.BadLengths)
		}
	case "timeout_incomplete":
		if o.pending == 0 || c != (Counts{}) {
			t.Errorf("pending %d, %+v", o.pending, c)
		}
	case "timeout_no_answer":
		if o.pending != 0 || c != (Counts{}) {
			t.Errorf("pending %d, %+v", o.pending, c)
		}
	case "no_frame":
		if len(frames) > 0 {
			t.Errorf("%d frames", len(frames))
		}
	case "bad_payload":
		if _, _, err := splitCard(frames[0].Data()); err == nil || troubleOf(err).Code != "bad_payload" {
			t.Errorf("taken for a card: %v", err)
		}
	case "status_error":
		err := statusError(readCard, frames[0])
		if err.Code() != note || !strings.Contains(err.Error(), note) {
			t.Errorf("%v, want %s", err, note)
		}
		if tr := troubleOf(err); tr.Code != note || tr.ZH == "" || tr.EN == "" || tr.Detail == "" {
			t.Errorf("trouble %+v", tr)
		}
	default:
		t.Errorf("unknown outcome %q", outcome)
	}
}

func TestFramerResync(t *testing.T) {
	good := string(Command(0, 0, 0x90))
	tests := map[string]struct {
		input string
		want  int
		c     Counts
	}{
		"four AA":                    {"\xAA" + good, 1, Counts{Discarded: 1}},
		"many AA":                    {strings.Repeat("\xAA", 300) + good, 1, Counts{Discarded: 300}},
		"length bytes start a frame": {"\xAA\xAA\xAA\x96\x69" + good, 1, Counts{Discarded: 5, BadLengths: 1}},
		"echo of a request":          {string(find.frame()) + good, 1, Counts{Echoes: 1}},
		"echo with a wrong sum":      {"\xAA\xAA\xAA\x96\x69\x00\x03\x20\x01\x23" + good, 1, Counts{Discarded: 10, BadLengths: 1}},
		"length of all ones":         {"\xAA\xAA\xAA\x96\x69\xFF\xFF" + good, 1, Counts{Discarded: 7, BadLengths: 1}},
		"one more than the longest":  {"\xAA\xAA\xAA\x96\x69\x09\x0B" + good, 1, Counts{Discarded: 7, BadLengths: 1}},
		"preamble inside a frame":    {string(Command(0, 0, append([]byte{0x90}, good...)...)) + good, 2, Counts{}},
	}
	for name, tt := range tests {
		frames, o := frame([]byte(tt.input), 1)
		if len(frames) != tt.want || o.counts != tt.c {
			t.Errorf("%s: %d frames, %+v; want %d, %+v", name, len(frames), o.counts, tt.want, tt.c)
		}
	}
}

func TestFramerReset(t *testing.T) {
	var f Framer
	f.Feed(Command(0, 0, 0x90)[:8])
	if f.Pending() != 8 {
		t.Errorf("pending %d", f.Pending())
	}
	f.Reset()
	f.Feed(Command(0, 0, 0x91))
	g, ok := f.Next()
	if !ok || g.Status() != 0x91 || f.Counts().Discarded != 8 {
		t.Errorf("after Reset: %x, %v, %+v", g, ok, f.Counts())
	}
}

func TestFramerAllocates(t *testing.T) {
	answer := Command(0, 0, append([]byte{0x90}, make([]byte, cardSize)...)...)
	var f Framer
	f.Feed(answer)
	f.Next()
	n := testing.AllocsPerRun(20, func() {
		for i := range answer {
			f.Feed(answer[i : i+1])
			f.Next()
		}
	})
	if n > 1 { // the frame handed out
		t.Errorf("%v allocations for a frame of %d bytes that come one by one", n, len(answer))
	}
}

func FuzzFramer(f *testing.F) {
	for _, v := range loadVectors(f).Malformed {
		f.Add([]byte(v.Input), uint8(7))
	}
	f.Fuzz(func(t *testing.T, input []byte, cut uint8) {
		frames, whole := frame(input, len(input)+1)
		if _, o := frame(input, int(cut)); o != whole {
			t.Fatalf("cut by %d: %+v, whole: %+v", cut, o, whole)
		}
		total := int(whole.counts.Discarded) + int(whole.counts.Echoes)*len(find.frame()) + whole.pending
		for _, g := range frames {
			total += len(g)
			if printed := Command(g[7], g[8], g[9:len(g)-1]...); !bytes.Equal(printed, g) {
				t.Fatalf("%x prints back as %x", g, printed)
			}
			if again, _ := frame(g, 1); len(again) != 1 || !slices.Equal(again[0], g) {
				t.Fatalf("%x is not found alone", g)
			}
		}
		if total != len(input) {
			t.Fatalf("%d of %d bytes accounted for", total, len(input))
		}
		for _, k := range Kinds() {
			_, whole := frameWith(k.Framer(), input, len(input)+1)
			if _, o := frameWith(k.Framer(), input, int(cut)); o != whole {
				t.Fatalf("%s cut by %d: %+v, whole: %+v", k.Name, cut, o, whole)
			}
			if k.Wrap == nil {
				continue
			}
			wrapped, _ := frameWith(k.Framer(), k.Wrap(input), int(cut))
			if !slices.EqualFunc(wrapped, frames, slices.Equal) {
				t.Fatalf("%s: %d frames come out of the wrapping, %d went in", k.Name, len(wrapped), len(frames))
			}
		}
	})
}
