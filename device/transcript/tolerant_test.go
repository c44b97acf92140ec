package transcript

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// visit is a conversation: hello, three times nobody, somebody, gone.
const visit = `< 0.000 00
> 0.100 AA 01
< 0.101 01
> 0.200 AA 02
< 0.201 80
> 0.300 AA 02
< 0.301 80
> 0.400 AA 02
< 0.401 9F
> 0.500 AA 03 01
< 0.510 C0
< 0.530 DE
> 0.600 AA 03
< 0.601 91
> 0.700 AA 02
< 0.701 41
`

func TestTolerant(t *testing.T) {
	for name, tt := range map[string]struct {
		sent string // in hexadecimal, a space between what is written at once
		want string // what the device said to each
		told []string
	}{
		"as recorded":      {"AA01 AA02 AA02 AA02 AA0301 AA03 AA02", "01 80 80 9F C0DE 91 41", nil},
		"at once":          {"AA01AA02AA02 AA02AA0301 AA03AA02", "018080 9FC0DE 9141", nil},
		"in bytes":         {"AA 01 AA 02", " 01  80", nil},
		"again":            {"AA01 AA01 AA01 AA01 AA02 AA01 AA02", "01 01 01 01 80 01 80", nil},
		"greeted again":    {"AA01 AA02 AA02 AA02 AA0301 AA01 AA02 AA0301 AA03", "01 80 80 9F C0DE 01 9F C0DE 91", nil},
		"nothing but find": {"AA02 AA02 AA02 AA02 AA02 AA02 AA02", "80 80 9F 9F 9F 9F 41", []string{"line 2: sent AA 02, want AA 01; going on at line 4", "line 10: sent AA 02, want AA 03 01; going on at line 15"}},
		"not greeted":      {"AA0301 AA03", "C0DE 91", []string{"line 2: sent AA 03 01, want AA 01; going on at line 10"}},
		"left out, asked":  {"AA03 AA01 AA02", "91 01 41", []string{"line 2: sent AA 03, want AA 01; going on at line 13"}},
		"unknown":          {"AA01 AA0702 AA02", "01  80", []string{"line 4: sent AA 07 02, want AA 02; this is nowhere"}},
		"rubbish before":   {"FFFFAA01", "01", []string{"line 2: sent FF FF, want AA 01; this is nowhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playTolerant(t, tt.sent, tt.want, tt.told) })
		})
	}
}

func playTolerant(t *testing.T, sent, want string, told []string) {
	near, far := net.Pipe()
	var said []string
	played := make(chan error, 1)
	go func() {
		played <- Player{Bursts: parse(t, visit), Tolerant: true, Pace: true, Mismatch: func(err error) { said = append(said, err.Error()) }}.Play(t.Context(), far)
		far.Close()
	}()
	heard := make(chan string, 100)
	go func() {
		defer close(heard)
		for p := make([]byte, 64); ; {
			n, err := near.Read(p)
			if err != nil {
				return
			}
			heard <- fmt.Sprintf("%X", p[:n])
		}
	}()
	if first := <-heard; first != "00" {
		t.Errorf("the device began with %s", first)
	}
	var got []string
	for _, s := range strings.Split(sent, " ") {
		var p []byte
		fmt.Sscanf(s, "%X", &p)
		if _, err := near.Write(p); err != nil {
			break
		}
		time.Sleep(time.Second)
		all := ""
		for len(heard) > 0 {
			all += <-heard
		}
		got = append(got, all)
	}
	if g := strings.Join(got, " "); g != want {
		t.Errorf("got %q, want %q", g, want)
	}
	near.Close()
	<-played
	if len(said) != len(told) {
		t.Fatalf("told %q", said)
	}
	for i := range told {
		if !strings.HasPrefix(said[i], "transcript "+told[i]) {
			t.Errorf("told %q, want %q", said[i], told[i])
		}
	}
}

// A play ends after the last burst, at a lost line and with its context.
func TestTolerantEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct{ sent, want string }{
			{"\xAA\x03\x01\xAA\x03\xAA\x02", "<nil>"},
			{"\xAA\x01", "transcript line 4: wait for AA 02: EOF"},
		} {
			p := Player{Bursts: parse(t, visit), Tolerant: true}
			if err := p.Play(t.Context(), &half{strings.NewReader(tt.sent)}); fmt.Sprint(err) != tt.want {
				t.Errorf("sent % X: %v, want %s", tt.sent, err, tt.want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		slow := Player{Bursts: parse(t, "> 0 AA\n< 3600 01\n"), Tolerant: true, Pace: true}
		if err := slow.Play(ctx, &half{strings.NewReader("\xAA")}); err == nil || !strings.Contains(err.Error(), "line 2: context canceled") {
			t.Errorf("ended: %v", err)
		}
	})
}

// double holds back every byte until the next has come, and makes it 00.
type double struct{ held int }

func (d *double) Received(p []byte) []byte {
	n := d.held + len(p)
	d.held = n % 2
	return make([]byte, n-d.held)
}

func (d *double) Cut() []byte {
	n := d.held
	d.held = 0
	return make([]byte, n)
}

// What a filter holds back is written with the burst it came in.
func TestFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record := func(filter Filter) []Burst {
			var out strings.Builder
			w := NewWriter(&out, filter)
			for range 2 { // a line that is lost and opened again
				near, far := net.Pipe()
				line := w.Record(near)
				go func() {
					far.Read(make([]byte, 1))
					for _, s := range []string{"a", "bcd", "ef", "g"} {
						time.Sleep(30 * time.Millisecond)
						far.Write([]byte(s))
					}
					far.Read(make([]byte, 1))
					far.Write([]byte("h"))
					far.Close()
				}()
				line.Write([]byte("?"))
				io.ReadFull(line, make([]byte, 7))
				line.Write([]byte("!"))
				io.ReadAll(line)
				w.Comment("the line is over")
				if err := line.Close(); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second)
			}
			if strings.Count(out.String(), "# \"the line is over\"\n") != 2 {
				t.Error("the comment is not there")
			}
			return parse(t, out.String())
		}
		whole, filtered := record(nil), record(&double{})
		if len(whole) != 14 || len(filtered) != len(whole) || whole[len(whole)-1].At < time.Second {
			t.Fatalf("%d bursts, %d filtered: %v", len(whole), len(filtered), whole)
		}
		for i, b := range whole {
			f := filtered[i]
			if b.At != f.At || b.Direction != f.Direction || len(b.Bytes) != len(f.Bytes) {
				t.Errorf("burst %d is %v, filtered %v", i, b, f)
			}
			if slices.ContainsFunc(f.Bytes, func(c byte) bool { return c != 0 }) != (f.Direction == Sent) {
				t.Errorf("burst %d is %v", i, f)
			}
		}
	})
}
