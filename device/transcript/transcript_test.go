package transcript

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const sample = `# find a card
> 0.000000 AA 20 01
< 0.004210 AA 80

> 0.204500 AA 20 01
< 1.208700 AA 9F 00
`

func parse(t *testing.T, s string) []Burst {
	t.Helper()
	b, err := Parse(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	got := parse(t, sample)
	want := []Burst{
		{2, Sent, 0, []byte{0xAA, 0x20, 0x01}},
		{3, Received, 4210 * time.Microsecond, []byte{0xAA, 0x80}},
		{5, Sent, 204500 * time.Microsecond, []byte{0xAA, 0x20, 0x01}},
		{6, Received, 1208700 * time.Microsecond, []byte{0xAA, 0x9F, 0x00}},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || got[3].Line != 6 {
		t.Errorf("got %v, want %v", got, want)
	}
	if b := parse(t, "<  2 aA9f 00"); b[0].String() != "< 2.000000 AA 9F 00" {
		t.Errorf("written by hand: %s", b[0])
	}
}

func TestParseRefuses(t *testing.T) {
	for input, want := range map[string]string{
		"> 0.1":            "line 1: want",
		"# x\n= 0.1 AA":    "line 2: want",
		">> 0.1 AA":        "line 1: want",
		"> soon AA":        `"soon" are no seconds`,
		"> NaN AA":         "no seconds",
		"> -1 AA":          "no seconds",
		"> 0 AG":           "line 1: bytes",
		"> 0 A":            "line 1: bytes",
		"> 2 AA\n\n< 1 AA": "line 3: time 1s is before",
		"> 1 AA\n< 2 " + strings.Repeat("A", 4*maxBurst): "line 2",
	} {
		if b, err := Parse(strings.NewReader(input)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.20q) = %v, %v; want %q", input, b, err, want)
		}
	}
}

// A recording played back is recorded the same.
func TestRecordAndPlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var out bytes.Buffer
		line := Record(near, &out)
		played := make(chan error, 1)
		go func() { played <- Player{Bursts: parse(t, sample), Pace: true}.Play(t.Context(), far) }()
		ask := func(n int) {
			if _, err := line.Write([]byte{0xAA, 0x20, 0x01}); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(line, make([]byte, n)); err != nil {
				t.Error(err)
			}
		}
		ask(2)
		time.Sleep(200290 * time.Microsecond)
		ask(3)
		if err := <-played; err != nil {
			t.Error(err)
		}
		if err := line.Close(); err != nil {
			t.Error(err)
		}
		if got, want := fmt.Sprint(parse(t, out.String())), fmt.Sprint(parse(t, sample)); got != want {
			t.Errorf("recorded\n%s\nwant\n%s", got, want)
		}
	})
}

func TestBursts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var out bytes.Buffer
		line := Record(near, &out)
		line.Comment("two lines\n> 0 AA")
		go func() {
			for _, pause := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
				time.Sleep(pause)
				far.Write([]byte("ab"))
			}
			far.Close()
		}()
		for p := make([]byte, 1); ; {
			if _, err := line.Read(p); err != nil {
				break
			}
		}
		line.Close()
		if want := "# \"two lines\\n> 0 AA\"\n< 0.000000 61 62 61 62\n< 0.021000 61 62\n"; out.String() != want {
			t.Errorf("got %s, want %s", out.String(), want)
		}
	})
}

func TestPlayerTellsMismatch(t *testing.T) {
	for sent, want := range map[string]string{
		"\xAA\x20\x02": "line 2: sent AA 20 02, want AA 20 01",
		"\xAB":         "line 2: sent AB, want AA 20 01",
		"\xAA\x20":     "line 2: sent AA 20 and then EOF, want AA 20 01",
	} {
		err := Player{Bursts: parse(t, sample)}.Play(t.Context(), &half{strings.NewReader(sent)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("sent %X: %v, want %s", sent, err, want)
		}
	}
	err := Player{Bursts: parse(t, sample)}.Play(t.Context(), &half{strings.NewReader("\xAA\x20\x01\xAA\x20\x01\xFF")})
	if err != nil { // what comes after the end of the transcript is not its business
		t.Error(err)
	}
}

// half is a line whose far end has said its all.
type half struct{ io.Reader }

func (*half) Write(p []byte) (int, error) { return len(p), nil }

func TestRecorderTellsFullDisk(t *testing.T) {
	near, far := net.Pipe()
	go io.Copy(io.Discard, far)
	full := errors.New("disk is full")
	line := Record(near, writerFunc(func([]byte) (int, error) { return 0, full }))
	if _, err := line.Write([]byte("x")); err != nil {
		t.Errorf("the line was disturbed: %v", err)
	}
	if err := line.Close(); !errors.Is(err, full) {
		t.Errorf("Close = %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("< 2 aA9f 00")
	f.Fuzz(func(t *testing.T, input string) {
		bursts, err := Parse(strings.NewReader(input))
		if err != nil {
			return
		}
		var out strings.Builder
		for _, b := range bursts {
			fmt.Fprintln(&out, b)
		}
		again, err := Parse(strings.NewReader(out.String()))
		if err != nil || len(again) != len(bursts) {
			t.Fatalf("%q reads back as %d bursts, %v", out.String(), len(again), err)
		}
		for i := range again {
			if again[i].String() != bursts[i].String() {
				t.Fatalf("%v reads back as %v", bursts[i], again[i])
			}
		}
	})
}
