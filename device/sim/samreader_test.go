package sim

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// serve starts r on a pipe and returns the host's end.
func serve(t *testing.T, r *Reader) net.Conn {
	host, dev := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(ctx, dev) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("Serve ended with %v", err)
		}
	})
	return host
}

// ask sends a request and returns the whole answer.
func ask(t *testing.T, c io.ReadWriter, req []byte) []byte {
	t.Helper()
	if _, err := c.Write(req); err != nil {
		t.Fatal(err)
	}
	f := make([]byte, 7, 4096)
	if _, err := io.ReadFull(c, f); err != nil {
		t.Fatal(err)
	}
	f = f[:7+int(f[5])<<8+int(f[6])]
	if _, err := io.ReadFull(c, f[7:]); err != nil {
		t.Fatal(err)
	}
	if xor(f[5:]) != 0 {
		t.Fatalf("answer % X has a wrong checksum", f)
	}
	return f
}

var (
	askStatus = []byte("\xAA\xAA\xAA\x96\x69\x00\x03\x11\xFF\xED")
	askSAMID  = []byte("\xAA\xAA\xAA\x96\x69\x00\x03\x12\xFF\xEE")
	askFind   = []byte("\xAA\xAA\xAA\x96\x69\x00\x03\x20\x01\x22")
	askSelect = []byte("\xAA\xAA\xAA\x96\x69\x00\x03\x20\x02\x21")
	askRead   = []byte("\xAA\xAA\xAA\x96\x69\x00\x03\x30\x01\x32")
	askNew    = []byte("\xAA\xAA\xAA\x96\x69\x00\x03\x30\x03\x30")
	askFinger = []byte("\xAA\xAA\xAA\x96\x69\x00\x03\x30\x10\x23")
	askNumber = []byte("\xAA\xAA\xAA\x96\x69\x00\x03\x30\x05\x36")
)

// steps sends requests and compares the status byte of each answer.
func steps(t *testing.T, c io.ReadWriter, s ...any) {
	t.Helper()
	for i := 0; i < len(s); i += 2 {
		if got, want := ask(t, c, s[i].([]byte))[9], byte(s[i+1].(int)); got != want {
			t.Fatalf("step %d: % X: status %02X, want %02X", i/2+1, s[i], got, want)
		}
	}
}

func TestReaderAnswersAsTheVectors(t *testing.T) {
	card := Cards()[0]
	lay := func(state cardState, addresses ...string) func(*Reader) {
		p := Persons()[0]
		p.NewAddresses = addresses
		c, err := p.Card()
		if err != nil {
			t.Fatal(err)
		}
		return func(r *Reader) { r.Lay(c); r.state = state }
	}
	before := map[string]func(*Reader){
		"find_ok":                         lay(laid),
		"select_ok":                       lay(found),
		"read_base":                       func(r *Reader) { r.Lay(card); r.state = selected },
		"new_address_none":                lay(done),
		"new_address_one":                 lay(done, "虚构省样例市示范区新不存在路9号"),
		"new_address_four_slots_two_used": lay(selected, "虚构省样例市示范区第一新路1号", "虚构省样例市示范区第二新路2号", "", ""),
		"card_management_number":          lay(selected),
	}
	v := readVectors(t)
	for _, e := range v.Exchanges {
		t.Run(e.Name, func(t *testing.T) {
			r := NewReader(ReaderOptions{})
			if f := before[e.Name]; f != nil {
				f(r)
			}
			got := ask(t, serve(t, r), unhex(t, e.Request))
			switch e.Name {
			case "card_management_number": // opaque numbers
				if want := unhex(t, e.Response); len(got) != len(want) || !bytes.Equal(got[:10], want[:10]) {
					t.Errorf("got % X\nwant the like of % X", got, want)
				}
				return
			case "read_base":
				e.Response = "AAAAAA96690508000090" + "01000400" + v.Cards[0].TextHex + hex.EncodeToString(card.Photo[:])
				got = got[:len(got)-1] // ask has looked at the checksum
			}
			if want := unhex(t, e.Response); !bytes.Equal(got, want) {
				t.Errorf("got % X\nwant % X", got, want)
			}
		})
	}
	for _, e := range v.Fingerprints {
		t.Run(e.Name, func(t *testing.T) {
			want := unhex(t, e.Response)
			var c Card
			copy(c.Text[:], want[16:])
			copy(c.Photo[:], want[272:])
			c.Fingerprints = want[1296 : len(want)-1]
			r := NewReader(ReaderOptions{})
			r.Lay(c)
			r.state = selected
			if got := ask(t, serve(t, r), unhex(t, e.Request)); !bytes.Equal(got, want) {
				t.Errorf("got % X\nwant % X", got, want)
			}
		})
	}
}

func TestReaderCycle(t *testing.T) {
	r := NewReader(ReaderOptions{})
	c := serve(t, r)
	steps(t, c, askFind, 0x80, askSelect, 0x81, askRead, 0x41, askNew, 0x41)
	card := Cards()[1]
	r.Lay(card)
	steps(t, c, askRead, 0x41, askFind, 0x9F, askFind, 0x9F, askRead, 0x41, askSelect, 0x90, askNumber, 0x90)
	f := ask(t, c, askRead)
	if len(f) != 1295 || f[9] != 0x90 {
		t.Fatalf("read answered %d bytes, status %02X", len(f), f[9])
	}
	if !bytes.Equal(f[10:14], []byte{1, 0, 4, 0}) || !bytes.Equal(f[14:270], card.Text[:]) || !bytes.Equal(f[270:1294], card.Photo[:]) {
		t.Error("read answer does not carry the card's blocks")
	}
	steps(t, c, askFind, 0x80, askSelect, 0x81, askRead, 0x41, askNew, 0x91, askNew, 0x91)
	r.Lift()
	steps(t, c, askNew, 0x41, askFind, 0x80)
	r.Lay(card)
	steps(t, c, askNew, 0x41, askFind, 0x9F, askSelect, 0x90, askRead, 0x90)
	r.Lay(Cards()[2]) // swapped between two polls
	steps(t, c, askNew, 0x41, askFind, 0x9F)
}

func TestReaderRefusesBadRequests(t *testing.T) {
	for name, test := range map[string]struct {
		sent string
		want byte
	}{
		"wrong checksum":        {"AAAAAA96690003200121", 0x10},
		"unknown command":       {"AAAAAA96690003200023", 0x21},
		"unknown rate":          {"AAAAAA96690003600566", 0x21},
		"data behind a command": {"AAAAAA9669000420010025", 0x21},
		"length too short":      {"AAAAAA96690002", 0x11},
		"length too long":       {"AAAAAA96690508", 0x11},
		"rubbish before":        {"00AA96AAAAAAAA9669000311FFED", 0x90},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ask(t, serve(t, NewReader(ReaderOptions{})), unhex(t, test.sent)); len(got) < 11 || got[9] != test.want {
				t.Errorf("answer % X, want status %02X", got, test.want)
			}
		})
	}
}

func TestReaderLiftedInTheMidstOfARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReader(ReaderOptions{Work: 500 * time.Millisecond})
		c := serve(t, r)
		for _, then := range []func(){r.Lift, func() { r.Lay(Cards()[1]) }} {
			r.Lay(Cards()[0])
			steps(t, c, askFind, 0x9F, askSelect, 0x90)
			time.AfterFunc(200*time.Millisecond, then)
			steps(t, c, askRead, 0x41)
		}
		steps(t, c, askFind, 0x9F, askSelect, 0x90, askRead, 0x90)
	})
}

func TestReaderKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent time.Time
		r := NewReader(ReaderOptions{Baud: 9600, Sent: func(_ []byte, at time.Time) { sent = at }})
		c := serve(t, r)
		r.Lay(Cards()[0])
		steps(t, c, askFind, 0x9F, askSelect, 0x90)
		start := time.Now()
		if _, err := c.Write(askRead); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		for got := 0; got < 1295; {
			n, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += n
			line := time.Since(start) - lineTime(len(askRead), 9600)
			if due := lineTime(got, 9600); line < due || line > due+5*time.Millisecond {
				t.Fatalf("byte %d came after %v, its line time is %v", got, line, due)
			}
		}
		synctest.Wait()
		if d := sent.Sub(start); d < 1359*time.Millisecond || d > 1365*time.Millisecond {
			t.Errorf("last byte sent after %v, the line needs 1359 ms", d)
		}
		steps(t, c, []byte("\xAA\xAA\xAA\x96\x69\x00\x03\x60\x00\x63"), 0x90)
		start = time.Now()
		steps(t, c, askFind, 0x80)
		if d := time.Since(start); d > 5*time.Millisecond {
			t.Errorf("after set baud 115200 a find took %v", d)
		}
	})
}

func TestReaderSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReader(ReaderOptions{})
		c := serve(t, r)
		r.Silence(true)
		if _, err := c.Write(askFind); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Fatalf("a silent reader sent something")
		}
		c.SetReadDeadline(time.Time{})
		r.Silence(false)
		steps(t, c, askFind, 0x80)
	})
}

func FuzzRequests(f *testing.F) {
	f.Add([]byte(askFind), 3)
	f.Add([]byte("\xAA\xAA\xAA\xAA\x96\x69\x00\x03\x20\x01\x22\xAA"), 1)
	f.Add([]byte("\xAA\xAA\xAA\x96\x69\xFF\xFF"), 7)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		whole, pieces := requests{buf: bytes.Clone(b)}, requests{}
		var a, c []request
		drain := func(in *requests, to *[]request) {
			for q, ok := in.next(); ok; q, ok = in.next() {
				*to = append(*to, q)
			}
		}
		drain(&whole, &a)
		cut = 1 + max(cut, 0)%16
		for len(b) > 0 {
			n := min(cut, len(b))
			pieces.buf = append(pieces.buf, b[:n]...)
			b = b[n:]
			drain(&pieces, &c)
		}
		if len(a) != len(c) {
			t.Fatalf("%d requests in one piece, %d in pieces of %d", len(a), len(c), cut)
		}
	})
}
