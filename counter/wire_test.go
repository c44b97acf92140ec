package counter

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var answered = unhex("01 03 08 00 01 23 45 00 01 1F 00 16 7B")

// script is a device that does one thing for each request it gets.
func script(t *testing.T, dev net.Conn, size int, replies ...func()) (at *[]time.Time) {
	at = new([]time.Time)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, reply := range replies {
			if _, err := io.ReadFull(dev, make([]byte, size)); err != nil {
				return
			}
			*at = append(*at, time.Now())
			reply()
		}
	}()
	t.Cleanup(func() { dev.Close(); <-done })
	return at
}

func TestSilenceBetweenFrames(t *testing.T) {
	for baud, gap := range map[int]time.Duration{
		1200: 32 * time.Millisecond, 9600: 4 * time.Millisecond, 0: 4 * time.Millisecond,
		19200: 1750 * time.Microsecond, 115200: 1750 * time.Microsecond,
	} {
		synctest.Test(t, func(t *testing.T) {
			host, dev := net.Pipe()
			defer host.Close()
			answer := func() { dev.Write(answered) }
			at := script(t, dev, 8, answer, answer)
			w := &wire{c: host, baud: baud, busy: time.Now()}
			q := request{station: 1, function: 3, words: 4}
			for range 2 {
				if _, err := w.askRTU(t.Context(), q, time.Second); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			// Both answers came at once, so the requests lie the silence apart.
			if d := (*at)[1].Sub((*at)[0]); d < gap || d > gap+2*time.Millisecond {
				t.Errorf("at %d baud the second request came %v after the first, want %v", baud, d, gap)
			}
		})
	}
}

func TestDeadlineGrowsWithTheLineTime(t *testing.T) {
	for _, test := range []struct {
		baud, words int
		want        time.Duration
	}{
		{115200, 4, 102 * time.Millisecond},
		{1200, 4, 100*time.Millisecond + 21*11*time.Second/1200},
		{1200, 8, 100*time.Millisecond + 29*11*time.Second/1200},
	} {
		synctest.Test(t, func(t *testing.T) {
			host, dev := net.Pipe()
			defer host.Close()
			at := script(t, dev, 8, func() {})
			w := &wire{c: host, baud: test.baud}
			_, err := w.askRTU(t.Context(), request{station: 1, function: 3, words: test.words}, 100*time.Millisecond)
			synctest.Wait()
			const calm = 20 * time.Millisecond
			if d := time.Since((*at)[0]) - calm; !errors.Is(err, os.ErrDeadlineExceeded) || d < test.want-time.Millisecond || d > test.want+time.Millisecond {
				t.Errorf("%d words at %d baud: %v after %v, want %v", test.words, test.baud, err, d, test.want)
			}
		})
	}
}

// An answer that comes when nobody waits for it any more is never taken for the
// answer to another request, whatever the moment.
func TestLateAnswers(t *testing.T) {
	other := unhex("01 03 08 04 D2 00 00 04 B0 00 00 66 FE") // fits as well
	for after := 80 * time.Millisecond; after < 400*time.Millisecond; after += 7 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			host, dev := net.Pipe()
			defer host.Close()
			script(t, dev, 8,
				func() {
					time.Sleep(after)
					for _, b := range other {
						dev.Write([]byte{b})
						time.Sleep(500 * time.Microsecond)
					}
				},
				func() { dev.Write(answered) })
			w := &wire{c: host, baud: 9600}
			q := request{station: 1, function: 3, words: 4}
			first, err := w.askRTU(t.Context(), q, 100*time.Millisecond)
			if err == nil && first[0] != 0x04 {
				t.Errorf("after %v: first answer % X", after, first)
			}
			if err != nil {
				time.Sleep(350 * time.Millisecond) // the next poll
			}
			second, err := w.askRTU(t.Context(), q, 100*time.Millisecond)
			if err != nil || second[3] != 0x45 {
				t.Errorf("after %v: second answer % X, %v", after, second, err)
			}
		})
	}
}

func TestFaultLeavesTheLineCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, dev := net.Pipe()
		defer host.Close()
		var last time.Time
		at := script(t, dev, 8,
			func() {
				dev.Write(unhex("02 03 08 00 01")) // of another station, and in no hurry
				for range 20 {
					time.Sleep(15 * time.Millisecond)
					dev.Write([]byte{0xFF})
					last = time.Now()
				}
			},
			func() { dev.Write(answered) })
		w := &wire{c: host, baud: 9600}
		s := &modbusStation{settings: two("high"), framing: framingRTU}
		r, err := s.read(t.Context(), w, 2)
		if err != nil || r.In != 74565 || r.Out != 73472 {
			t.Fatalf("%+v, %v", r, err)
		}
		synctest.Wait()
		if d := (*at)[1].Sub(last); d < 20*time.Millisecond {
			t.Errorf("asked again %v after the last byte", d)
		}
	})
}

func TestTCPAnswersThatAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, dev := net.Pipe()
		defer host.Close()
		of := func(tid byte, last byte) []byte {
			return append(unhex("00"), append([]byte{tid}, append(unhex("0000 000B 01 0308 0001 2345 0001 1F"), last)...)...)
		}
		script(t, dev, 12,
			func() { time.Sleep(90 * time.Millisecond); dev.Write(of(1, 1)[:9]) }, // stops half-way
			func() { dev.Write(of(1, 1)[9:]) },                                    // no more than that
			func() { dev.Write(of(2, 2)); dev.Write(of(3, 3)) },
			func() { dev.Write(of(77, 4)) })
		w := &wire{c: host}
		q := request{station: 1, function: 3, words: 4}
		for i := range 2 {
			if _, err := w.askTCP(t.Context(), q, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("request %d: %v", i+1, err)
			}
		}
		if data, err := w.askTCP(t.Context(), q, 100*time.Millisecond); err != nil || data[7] != 3 {
			t.Fatalf("request 3: % X, %v", data, err)
		}
		if _, err := w.askTCP(t.Context(), q, 100*time.Millisecond); !errors.Is(err, errForeign) {
			t.Fatalf("request 4: %v", err)
		}
	})
}

// Rubbish is told from silence, and asked again in the same way.
func TestAskAgain(t *testing.T) {
	for name, test := range map[string]struct {
		replies []func(net.Conn)
		want    error
		machine byte
	}{
		"a good answer":             {[]func(net.Conn){says(gateGolden)}, nil, 1},
		"nothing, then good":        {[]func(net.Conn){says(""), says(gateGolden)}, nil, 1},
		"half, then good":           {[]func(net.Conn){says(gateGolden[:20]), says(gateGolden)}, nil, 1},
		"nothing at all":            {[]func(net.Conn){says(""), says("")}, os.ErrDeadlineExceeded, 1},
		"rubbish":                   {[]func(net.Conn){says("00 11 22"), says("33")}, errGarbled, 1},
		"rubbish, then nothing":     {[]func(net.Conn){says("00 11 22"), says("")}, os.ErrDeadlineExceeded, 1},
		"another machine, twice":    {[]func(net.Conn){says(gateGolden), says(gateGolden)}, errGarbled, 2},
		"a wrong sum with 7F in it": {[]func(net.Conn){says(gateWrong), says(gateWrong)}, errGarbled, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host, dev := net.Pipe()
				defer host.Close()
				var replies []func()
				for _, r := range test.replies {
					replies = append(replies, func() { r(dev) })
				}
				script(t, dev, 8, replies...)
				g := &gateStation{&Gate7F{Station: int(test.machine)}}
				r, err := g.read(t.Context(), &wire{c: host, baud: 9600}, 2)
				if !errors.Is(err, test.want) || err == nil && (r.In != 1234 || r.Out != 1200) {
					t.Errorf("%+v, %v", r, err)
				}
				if test.want == errGarbled && strings.Contains(name, "sum") != strings.Contains(err.Error(), "fits: ") {
					t.Errorf("says %v", err)
				}
			})
		})
	}
}

const gateWrong = "7F 12 01 00 00 00 00 7F 7F 7F 04 7F F0 55 7F 00 00 00"

func says(hex string) func(net.Conn) {
	return func(dev net.Conn) {
		if hex != "" {
			dev.Write(unhex(hex))
		}
	}
}
