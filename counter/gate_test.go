package counter

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device"
)

const gateGolden = "7F 12 01 00 00 00 00 04 D2 00 04 B0 F0 55 18 00 00 86"

// The maker's own sample frame breaks its own rule; these follow the rule.
func TestGateGoldenFrames(t *testing.T) {
	if got := gateStatus(1); !bytes.Equal(got, unhex("7E 00 01 10 00 00 00 70")) {
		t.Errorf("request % X", got)
	}
	frame, missing, wrong, err := gateFind(1, unhex(gateGolden))
	if err != nil || wrong != nil || missing != 0 {
		t.Fatalf("%d missing, %v, %v", missing, wrong, err)
	}
	for left, want := range map[string]Reading{
		"":    {In: 1234, Out: 1200, Modulus: 1 << 24},
		"in":  {In: 1234, Out: 1200, Modulus: 1 << 24},
		"out": {In: 1200, Out: 1234, Modulus: 1 << 24},
	} {
		if r := (&Gate7F{Station: 1, Left: left}).gateReading(time.Time{}, frame); r != want {
			t.Errorf("left %q: %+v, want %+v", left, r, want)
		}
	}
	full := gateSealed("7F 12 01 00 00 00 FF FF FF 80 00 00 00 55 18 00 00")
	if r := (&Gate7F{}).gateReading(time.Time{}, full); r.In != 1<<24-1 || r.Out != 1<<23 {
		t.Errorf("full: %+v", r)
	}
}

func gateSealed(s string) []byte {
	b := unhex(s)
	return append(b, ^sum8(b))
}

// No other command than 10 goes out, whatever the machine: not those that zero
// (20, 21), restart (35), open and close (8x) or set (96).
func TestGateAsksOnly(t *testing.T) {
	for machine := range 256 {
		f := gateStatus(byte(machine))
		if want := []byte{0x7E, 0, byte(machine), 0x10, 0, 0, 0}; len(f) != 8 || !bytes.Equal(f[:7], want) || sum8(f) != 0xFF {
			t.Errorf("machine %d is sent % X", machine, f)
		}
	}
}

func TestGateFind(t *testing.T) {
	good := unhex(gateGolden)
	inside := gateSealed("7F 12 01 00 00 00 00 7F 7F 7F 04 7F F0 55 7F 00 00")
	bad := bytes.Clone(good)
	bad[17] = 0x79 // the plain sum
	badInside := bytes.Clone(inside)
	badInside[17] += 3
	for name, test := range map[string]struct {
		come    []byte
		want    []byte
		missing int
		err     bool
		wrong   string // rule that fits
	}{
		"nothing yet":                   {missing: 18},
		"good":                          {come: good, want: good},
		"7F inside":                     {come: inside, want: inside},
		"noise before":                  {come: slices.Concat(unhex("00 FF 55"), good), want: good},
		"noise with a head before":      {come: slices.Concat(unhex("00 7F 55"), good), want: good},
		"only noise":                    {come: unhex("00 FF 55"), missing: 18},
		"noise with a head":             {come: unhex("00 7F 55"), missing: 16},
		"too much noise":                {come: make([]byte, 257), err: true},
		"echo before":                   {come: slices.Concat(gateStatus(1), good), want: good},
		"half a frame and a whole one":  {come: slices.Concat(good[:9], good), want: good},
		"half a frame, and the next":    {come: slices.Concat(good[:9], good[:9]), missing: 9},
		"a wrong sum":                   {come: bad, err: true, wrong: "sum"},
		"a wrong sum with 7F inside":    {come: badInside, missing: 7, wrong: "no known rule"},
		"a wrong frame, then a good":    {come: slices.Concat(bad, good), want: good},
		"of another machine":            {come: gateSealed("7F 12 02 00 00 00 00 04 D2 00 04 B0 F0 55 18 00 00"), err: true},
		"a good frame, then the next's": {come: slices.Concat(good, inside), want: good},
	} {
		frame, missing, wrong, err := gateFind(1, test.come)
		if !bytes.Equal(frame, test.want) || missing != test.missing || test.err != (err != nil) || err != nil && !errors.Is(err, errGarbled) {
			t.Errorf("%s: % X, %d missing, %v", name, frame, missing, err)
		}
		if test.wrong != "" && (wrong == nil || !strings.HasSuffix(gateDamage(wrong).Error(), "fits: "+test.wrong)) {
			t.Errorf("%s: % X", name, wrong)
		}
	}
	for bit := range 8 * len(good) {
		b := bytes.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		if frame, _, _, _ := gateFind(1, b); frame != nil {
			t.Errorf("bit %d turned: % X", bit, frame)
		}
	}
}

func TestChecksumsThatFit(t *testing.T) {
	body := unhex(gateGolden)[:17]
	for want, sum := range map[string]byte{
		"sum": 0x79, "negative sum": 0x87, "xor": 0xB3, "complement without the head": 0x05, "xor without the head": 0xCC, "no known rule": 0x00,
	} {
		if got := fits(body, sum); got != want {
			t.Errorf("%02X fits %s, want %s", sum, got, want)
		}
	}
}

func TestGateCheck(t *testing.T) {
	for name, test := range map[string]struct {
		settings Gate7F
		keys     []string
	}{
		"good":           {Gate7F{Station: 1}, nil},
		"good, left out": {Gate7F{Station: 255, Left: "out", Timeout: time.Second}, nil},
		"not filled in":  {Gate7F{}, []string{"station"}},
		"all wrong":      {Gate7F{Station: 256, Left: "right", Timeout: -1}, []string{"station", "left", "timeout"}},
	} {
		checkKeys(t, name, test.settings.Check(device.Address{Scheme: device.SchemeSerial}), test.keys)
	}
}

// checkKeys wants problems of these keys, each with a cause and a hint.
func checkKeys(t *testing.T, name string, ps []Problem, want []string) {
	t.Helper()
	var keys []string
	for _, p := range ps {
		keys = append(keys, p.Key)
		if p.Cause == "" || p.Hint == "" {
			t.Errorf("%s: %s has no cause or no hint", name, p.Key)
		}
	}
	if !slices.Equal(keys, want) {
		t.Errorf("%s: problems %v, want %v", name, keys, want)
	}
}

// feed gives a check what comes as a line does, never beyond what is said to be
// missing, until it is done or the bytes are at their end.
func feed(t *testing.T, come []byte, check answer) (data []byte, err error) {
	n := 0
	for {
		data, missing, err := check(come[:n:n])
		switch {
		case err != nil && (data != nil || missing != 0):
			t.Fatalf("an error, and %d bytes, %d missing", len(data), missing)
		case err != nil || missing == 0:
			return data, err
		case missing < 0:
			t.Fatalf("%d missing", missing)
		}
		if n += missing; n > len(come) {
			return nil, nil
		}
	}
}

func FuzzGateAnswer(f *testing.F) {
	f.Add(unhex(gateGolden), uint8(1))
	f.Add(append(unhex("7F 00 7F 01"), unhex(gateGolden)...), uint8(1))
	f.Add(bytes.Repeat([]byte{0x7F}, 4000), uint8(1)) // heads without an end
	f.Fuzz(func(t *testing.T, b []byte, machine uint8) {
		frame, err := feed(t, b, func(come []byte) ([]byte, int, error) {
			frame, missing, _, err := gateFind(machine, come)
			return frame, missing, err
		})
		if err == nil && frame != nil && (len(frame) != 18 || frame[0] != 0x7F || frame[2] != machine || sum8(frame) != 0xFF) {
			t.Errorf("took % X", frame)
		}
	})
}
