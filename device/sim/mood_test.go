package sim

import (
	"bytes"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// hearAll sends a request, if there is one, and returns what comes within d.
func hearAll(t *testing.T, c net.Conn, req []byte, d time.Duration) (got []byte) {
	t.Helper()
	if _, err := c.Write(req); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(d))
	defer c.SetReadDeadline(time.Time{})
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			return got
		}
	}
}

var (
	sayDone   = respond(swDone)
	sayFound  = respond(swFound, 0, 0, 0, 0)
	sayNoCard = respond(swNoCard)
)

// moody runs f with a reader on a pipe, with a card on it.
func moody(t *testing.T, o ReaderOptions, m Mood, f func(t *testing.T, r *Reader, c net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := NewReader(o)
		r.Lay(Cards()[0])
		r.SetMood(m)
		f(t, r, serve(t, r))
	})
}

func TestMoodsOfTheLine(t *testing.T) {
	type exchange struct {
		ask  []byte
		want []byte
	}
	for name, test := range map[string]struct {
		mood Mood
		says []exchange
	}{
		"echo":        {Mood{Echo: true}, []exchange{{askFind, slices.Concat(askFind, sayFound)}, {[]byte{1, 2}, []byte{1, 2}}}},
		"half, once":  {Mood{Cut: Cut{After: 6, Times: 1}}, []exchange{{askFind, sayFound[:6]}, {askFind, sayFound}}},
		"half, twice": {Mood{Cut: Cut{After: 1, Times: 2}}, []exchange{{askFind, sayFound[:1]}, {askFind, sayFound[:1]}, {askFind, sayFound}}},
		"half":        {Mood{Cut: Cut{After: 14}}, []exchange{{askFind, sayFound[:14]}, {askFind, sayFound[:14]}, {askStatus, sayDone}}},
		"swallowed":   {Mood{Swallow: 1}, []exchange{{askFind, nil}, {askFind, sayFound}}},
		"wedged":      {Mood{Wedged: true}, []exchange{{askFind, nil}, {askStatus, nil}}},
		"in pieces":   {Mood{Pieces: Pieces{Size: 4, Pause: time.Second}}, []exchange{{askFind, sayFound}}},
	} {
		t.Run(name, func(t *testing.T) {
			moody(t, ReaderOptions{}, test.mood, func(t *testing.T, r *Reader, c net.Conn) {
				for i, e := range test.says {
					if got := hearAll(t, c, e.ask, time.Minute); !bytes.Equal(got, e.want) {
						t.Errorf("exchange %d: % X, want % X", i, got, e.want)
					}
				}
				r.SetMood(Mood{})
				if got := hearAll(t, c, askFind, time.Minute); !bytes.Equal(got, sayFound) {
					t.Errorf("well again it says % X", got)
				}
			})
		})
	}
}

func TestMoodsOfTheModule(t *testing.T) {
	always := func(status ...byte) Mood { return Mood{Force: []Force{{Status: [3]byte(status)}}} }
	for name, test := range map[string]struct {
		mood  Mood
		steps []any
	}{
		"self-test failed": {always(0, 0, 0x60), []any{askStatus, 0x60, askSAMID, 0x60, askFind, 0x60, askRead, 0x60}},
		"not authorised":   {always(0, 0, 0x66), []any{askStatus, 0x66, askFind, 0x66}},
		"read refused twice": {Mood{Force: []Force{{[2]byte{0x30, 0x01}, [3]byte{0x69, 0x82, 0x47}, 2}}},
			[]any{askFind, 0x9F, askSelect, 0x90, askRead, 0x47, askRead, 0x47, askRead, 0x90}},
		"two in turn": {Mood{Force: []Force{{[2]byte{0x20, 0x01}, [3]byte{0, 0, 0x24}, 1}, {[2]byte{0x20, 0x01}, [3]byte{0, 0, 0x80}, 1}}},
			[]any{askFind, 0x24, askFind, 0x80, askFind, 0x9F}},
		"presence is no command": {Mood{Force: []Force{{[2]byte{0x30, 0x03}, [3]byte{0, 0, 0x21}, 0}}},
			[]any{askFind, 0x9F, askSelect, 0x90, askRead, 0x90, askNew, 0x21, askNew, 0x21, askNumber, 0x90}},
		"no right to fingerprints": {Mood{Force: []Force{{[2]byte{0x30, 0x10}, [3]byte{0, 0, 0x23}, 0}}},
			[]any{askFind, 0x9F, askSelect, 0x90, askFinger, 0x23, askRead, 0x90}},
		"find finds again": {Mood{FindsAgain: true},
			[]any{askFind, 0x9F, askSelect, 0x90, askRead, 0x90, askFind, 0x9F, askSelect, 0x90, askRead, 0x90}},
		"read again": {Mood{Rereads: true},
			[]any{askFind, 0x9F, askSelect, 0x90, askRead, 0x90, askFind, 0x80, askSelect, 0x90, askRead, 0x90, askRead, 0x90}},
	} {
		t.Run(name, func(t *testing.T) {
			moody(t, ReaderOptions{}, test.mood, func(t *testing.T, r *Reader, c net.Conn) { steps(t, c, test.steps...) })
		})
	}
}

func TestMoodGivesTheStatusWordOfTheCard(t *testing.T) {
	moody(t, ReaderOptions{}, Mood{Force: []Force{{Status: [3]byte{0x69, 0x82, 0x41}}}}, func(t *testing.T, _ *Reader, c net.Conn) {
		if got, want := ask(t, c, askRead), []byte("\xAA\xAA\xAA\x96\x69\x00\x04\x69\x82\x41\xAE"); !bytes.Equal(got, want) {
			t.Errorf("% X, want % X", got, want)
		}
	})
}

func TestMoodPresenceOnce(t *testing.T) {
	moody(t, ReaderOptions{}, Mood{PresenceOnce: true}, func(t *testing.T, r *Reader, c net.Conn) {
		for range 2 {
			steps(t, c, askFind, 0x9F, askSelect, 0x90, askRead, 0x90, askNew, 0x91)
			if got := hearAll(t, c, askNew, time.Minute); len(got) > 0 {
				t.Fatalf("the second time it says % X", got)
			}
			steps(t, c, askNumber, 0x90)
			r.Lay(Cards()[1])
		}
		r.Lift()
		steps(t, c, askNew, 0x41)
	})
}

func TestMoodSlow(t *testing.T) {
	moody(t, ReaderOptions{Baud: 115200}, Mood{Delay: 700 * time.Millisecond, Pace: 9600}, func(t *testing.T, _ *Reader, c net.Conn) {
		start := time.Now()
		if _, err := c.Write(askFind); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		n, err := c.Read(buf)
		if took := time.Since(start); err != nil || took < 700*time.Millisecond || took > 705*time.Millisecond {
			t.Errorf("first byte after %v, %v", took, err)
		}
		rest := hearAll(t, c, nil, 16*time.Millisecond)
		if got := append(buf[:n], rest...); !bytes.Equal(got, sayFound) {
			t.Errorf("% X", got)
		}
		if got := len(hearAll(t, c, askFind, 710*time.Millisecond)); got < 6 || got > 10 {
			t.Errorf("%d bytes within 9 ms", got)
		}
	})
}

func TestMoodLate(t *testing.T) {
	moody(t, ReaderOptions{}, Mood{Late: 2 * time.Second}, func(t *testing.T, _ *Reader, c net.Conn) {
		if got := hearAll(t, c, askStatus, time.Second); len(got) > 0 {
			t.Fatalf("in time it says % X", got)
		}
		if got := hearAll(t, c, askFind, 2*time.Second); !bytes.Equal(got, slices.Concat(sayDone, sayFound)) {
			t.Errorf("% X, want the late answer and the one after", got)
		}
		if got := hearAll(t, c, askFind, time.Second); !bytes.Equal(got, sayFound) {
			t.Errorf("then % X", got)
		}
	})
}

func TestMoodNoisyIsTheSameForTheSameSeed(t *testing.T) {
	hear := func(m Mood) (all []byte) {
		moody(t, ReaderOptions{}, m, func(t *testing.T, r *Reader, c net.Conn) {
			for range 50 {
				all = append(all, hearAll(t, c, askFind, time.Second)...)
			}
		})
		return all
	}
	clean := bytes.Repeat(sayFound, 50)
	flipped := hear(Mood{Flip: 0.02, Seed: 1})
	wrong := 0
	for i := range clean {
		if i < len(flipped) && clean[i] != flipped[i] {
			wrong++
			if x := clean[i] ^ flipped[i]; x&(x-1) != 0 {
				t.Errorf("byte %d: more than one bit is wrong", i)
			}
		}
	}
	if len(flipped) != len(clean) || wrong < 5 || wrong > 30 {
		t.Errorf("%d bytes, %d of them wrong", len(flipped), wrong)
	}
	if noisy := hear(Mood{Rubbish: 0.5, Seed: 1}); bytes.Count(noisy, sayFound) != 50 || len(noisy) < len(clean)+50 || len(noisy) > len(clean)+800 {
		t.Errorf("%d bytes, %d whole answers among them", len(noisy), bytes.Count(noisy, sayFound))
	}
	m := Mood{Rubbish: 0.3, Flip: 0.01, Seed: 7}
	first, again := hear(m), hear(m)
	m.Seed++
	if !bytes.Equal(first, again) || bytes.Equal(first, hear(m)) {
		t.Error("chance does not follow the seed")
	}
}

func TestMoodDisturbsOneByteOfARead(t *testing.T) {
	moody(t, ReaderOptions{}, Mood{Disturb: 1, Rereads: true}, func(t *testing.T, _ *Reader, c net.Conn) {
		steps(t, c, askFind, 0x9F, askSelect, 0x90)
		wrong, right := hearAll(t, c, askRead, time.Second), hearAll(t, c, askRead, time.Second)
		n := 0
		for i := range right {
			if wrong[i] != right[i] {
				n++
			}
		}
		if n != 1 || len(right) != 1295 || xor(right[5:]) != 0 {
			t.Errorf("%d bytes are wrong; then %d bytes come", n, len(right))
		}
	})
}

func TestReaderStarts(t *testing.T) {
	moody(t, ReaderOptions{Baud: 9600}, Mood{StartUp: 1500 * time.Millisecond, Banner: "SAM V3.1\r\n", WrongIDs: 2}, func(t *testing.T, r *Reader, c net.Conn) {
		steps(t, c, askFind, 0x9F, askSelect, 0x90, askRead, 0x90)
		r.PowerOn()
		if got := hearAll(t, c, askStatus, 1400*time.Millisecond); len(got) > 0 {
			t.Fatalf("while it starts it says % X", got)
		}
		if got := hearAll(t, c, nil, 200*time.Millisecond); string(got) != "SAM V3.1\r\n" {
			t.Fatalf("up, it says %q", got)
		}
		one, two, three := ask(t, c, askSAMID), ask(t, c, askSAMID), ask(t, c, askSAMID)
		if right := respond(swDone, madeUpSAMID[:]...); bytes.Equal(one, two) || bytes.Equal(one, right) || bytes.Equal(two, right) || !bytes.Equal(three, right) {
			t.Errorf("ids % X, % X, % X", one[10:], two[10:], three[10:])
		}
		steps(t, c, askFind, 0x9F) // anew
	})
}

func TestWedgedUntilTheHostHangsUpOrItIsSwitchedOn(t *testing.T) {
	moody(t, ReaderOptions{}, Mood{Wedged: true}, func(t *testing.T, r *Reader, c net.Conn) {
		if got := hearAll(t, c, askFind, time.Minute); len(got) > 0 {
			t.Fatalf("it says % X", got)
		}
		r.PowerOn()
		synctest.Wait()
		steps(t, c, askFind, 0x9F)
		r.SetMood(Mood{Wedged: true})
		host, dev := net.Pipe()
		host.Close()
		if err := r.Serve(t.Context(), dev); err == nil {
			t.Error("serves a host that has hung up")
		}
		steps(t, c, askFind, 0x9F)
	})
}

func TestMisheard(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, rate := range bauds {
		if got := misheard(every, rate, rate); !bytes.Equal(got, every) {
			t.Errorf("at its own rate of %d: % X", rate, got)
		}
		for _, at := range bauds {
			in := requests{}
			for _, q := range [][]byte{askStatus, askSAMID, askFind, askRead} {
				in.buf = append(in.buf, misheard(q, rate, at)...)
			}
			if _, ok := in.next(); ok != (rate == at) {
				t.Errorf("sent at %d and heard at %d: a request is understood: %v", rate, at, ok)
			}
			if got := misheard(sayFound, rate, at); rate != at && len(got) == 0 {
				t.Errorf("sent at %d and heard at %d: nothing at all", rate, at)
			}
		}
	}
}

func TestReaderServesOneConnectionAfterAnother(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := NewReader(ReaderOptions{})
	ended := make(chan error, 1)
	go func() { ended <- r.ServeTCP(t.Context(), ln) }()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		return c
	}
	one, two := dial(), dial()
	defer two.Close()
	steps(t, one, askFind, 0x80)
	two.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := two.Write(askFind); err != nil {
		t.Fatal(err)
	}
	if n, err := two.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("two hosts have the reader at once")
	}
	one.Close()
	two.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, len(sayNoCard))
	if _, err := two.Read(got); err != nil || !bytes.Equal(got, sayNoCard) {
		t.Errorf("the second hears % X, %v", got, err)
	}
	ln.Close()
	two.Close()
	if err := <-ended; err == nil {
		t.Error("the end of the listener is no error")
	}
}
