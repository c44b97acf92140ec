package counter

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device"
)

// framed is hexadecimal text between the ends of a frame.
func framed(text string) []byte { return []byte("\x02" + text + "\x03") }

const hpcGolden = "00019310" + "00000034" + "0000002F" + "0000000000000000" + "07"

func TestHPCGoldenFrames(t *testing.T) {
	for id, want := range map[uint16]string{
		1:      "02 30 30 30 31 31 33 30 30 31 34 03",
		2:      "02 30 30 30 32 31 33 30 30 31 35 03",
		0xABCD: "02 41 42 43 44 31 33 30 30 38 42 03",
	} {
		if got := hpcQuery(id); !bytes.Equal(got, unhex(want)) {
			t.Errorf("counter %04X is asked % X, want %s", id, got, want)
		}
	}
	golden := framed(hpcGolden)
	if len(golden) != 44 || !bytes.HasPrefix(golden, unhex("02 30 30 30 31 39 33 31 30")) || !bytes.HasSuffix(golden, unhex("30 37 03")) {
		t.Fatalf("golden answer % X", golden)
	}
	body, missing, err := hpcFind(1, golden)
	if err != nil || missing != 0 {
		t.Fatalf("%d missing, %v", missing, err)
	}
	if r := hpcReading(time.Time{}, body); r != (Reading{In: 52, Out: 47, Modulus: 1 << 32}) {
		t.Errorf("reading %+v", r)
	}
}

// No other command than 13 goes out: not the one that clears (12).
func TestHPCAsksOnly(t *testing.T) {
	for id := range 1 << 16 {
		if f := hpcQuery(uint16(id)); len(f) != 12 || string(f[5:9]) != "1300" {
			t.Fatalf("counter %04X is asked % X", id, f)
		}
	}
}

func TestHPCFind(t *testing.T) {
	good := framed(hpcGolden)
	for name, test := range map[string]struct {
		come     []byte
		missing  int
		err      bool
		in, out  uint64
		complete bool
	}{
		"nothing yet":              {missing: 44},
		"noise":                    {come: unhex("00 FF 30"), missing: 44},
		"too much noise":           {come: make([]byte, 257), err: true},
		"the start":                {come: good[:1], missing: 8},
		"up to the length":         {come: good[:9], missing: 35},
		"but the end":              {come: good[:43], missing: 1},
		"good":                     {come: good, complete: true, in: 52, out: 47},
		"lower case":               {come: bytes.ToLower(good), complete: true, in: 52, out: 47},
		"noise before":             {come: slices.Concat(unhex("00 03 FF"), good), complete: true, in: 52, out: 47},
		"half a frame before":      {come: slices.Concat(good[:20], good), complete: true, in: 52, out: 47},
		"our own echo":             {come: hpcQuery(1), missing: 44},
		"our own echo before":      {come: slices.Concat(hpcQuery(1), good), complete: true, in: 52, out: 47},
		"half of it before":        {come: slices.Concat(hpcQuery(1)[:7], good), complete: true, in: 52, out: 47},
		"more than 16 bits":        {come: framed("00019310" + "89ABCDEF" + "00010000" + "00000000" + "12345678" + "A9"), complete: true, in: 0x89ABCDEF, out: 0x10000},
		"a wrong sum":              {come: framed(hpcGolden[:len(hpcGolden)-1] + "8"), err: true},
		"of another counter":       {come: framed("00029310" + "00000034" + "0000002F" + "0000000000000000" + "08"), err: true},
		"an answer to another":     {come: framed("0001E606000000000000ED"), err: true},
		"cleared, by somebody":     {come: framed("00019201069A"), err: true},
		"no hexadecimal":           {come: framed("0001931000000034000000GG000000000000000007"), err: true},
		"an odd number of digits":  {come: framed("00019310000"), err: true},
		"nothing in it":            {come: framed(""), err: true},
		"longer than any":          {come: framed("000193FF" + hpcGolden)[:20], err: true},
		"no end where it says one": {come: slices.Concat(good[:43], []byte("0")), err: true},
		"the length is no number":  {come: []byte("\x02000193X0"), err: true},
	} {
		body, missing, err := hpcFind(1, test.come)
		if missing != test.missing || test.err != (err != nil) || err != nil && !errors.Is(err, errGarbled) || test.complete != (body != nil) {
			t.Errorf("%s: % X, %d missing, %v", name, body, missing, err)
		} else if body != nil {
			if r := hpcReading(time.Time{}, body); r.In != test.in || r.Out != test.out {
				t.Errorf("%s: %d in, %d out", name, r.In, r.Out)
			}
		}
	}
	for bit := range 8 * len(good) {
		b := bytes.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		if body, _, _ := hpcFind(1, b); body != nil && !bytes.Equal(b, bytes.ToLower(good)) {
			if r := hpcReading(time.Time{}, body); r.In != 52 || r.Out != 47 {
				t.Errorf("bit %d turned: %+v", bit, r)
			}
		}
	}
}

func TestHPCCheck(t *testing.T) {
	line := device.Address{Scheme: device.SchemeSerial}
	checkKeys(t, "good", (&HPC{Station: 0xFFFF}).Check(line), nil)
	checkKeys(t, "not filled in", (&HPC{}).Check(line), []string{"station"})
	checkKeys(t, "all wrong", (&HPC{Station: 1 << 16, Timeout: time.Hour}).Check(line), []string{"station", "timeout"})
}

func FuzzHPCAnswer(f *testing.F) {
	f.Add(framed(hpcGolden), uint16(1))
	f.Add(append(hpcQuery(1), framed(hpcGolden)...), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, id uint16) {
		body, err := feed(t, b, func(come []byte) ([]byte, int, error) { return hpcFind(id, come) })
		if err == nil && body != nil && (len(body) != 20 || uint16(body[0])<<8|uint16(body[1]) != id || body[2] != 0x93) {
			t.Errorf("took % X", body)
		}
	})
}
