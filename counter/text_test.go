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

func lines(s *splitter, chunks ...string) (all []string) {
	for _, c := range chunks {
		for _, line := range s.cut([]byte(c)) {
			all = append(all, string(line))
		}
	}
	return all
}

func TestSplitter(t *testing.T) {
	long := strings.Repeat("x", longestLine)
	for name, test := range map[string]struct {
		end    string
		chunks []string
		want   []string
	}{
		"any end":                    {"", []string{"a\r\nb\nc\rd"}, []string{"a", "b", "c"}},
		"in pieces":                  {"", []string{"a", "b\r", "\nc", "\n"}, []string{"ab", "c"}},
		"nothing but ends":           {"", []string{"\r\n\r\n\n"}, nil},
		"cr alone":                   {"\r", []string{"a\nb\rc\r"}, []string{"a\nb", "c"}},
		"crlf in pieces":             {"\r\n", []string{"a\rb\r", "\nc\r\n"}, []string{"a\rb", "c"}},
		"a character":                {";", []string{"a;;b;c"}, []string{"a", "b"}},
		"none":                       {"none", []string{"IO", "\r\n"}, []string{"I", "O", "\r", "\n"}},
		"binary":                     {"", []string{"\x00\xff\n"}, []string{"\x00\xff"}},
		"as long as may be":          {"", []string{long + "\nb\n"}, []string{long, "b"}},
		"longer, then on":            {"", []string{long, "x", long, long, "\nb\n"}, []string{"b"}},
		"longer, with an end of two": {"\r\n", []string{long + long + "\r", "\nb\r\n"}, []string{"b"}},
	} {
		if got := lines(&splitter{end: test.end}, test.chunks...); !slices.Equal(got, test.want) {
			t.Errorf("%s: %d lines %.40q, want %.40q", name, len(got), got, test.want)
		}
	}
	s := &splitter{}
	for range 1000 {
		s.cut([]byte(long))
	}
	if cap(s.rest) > 4*longestLine {
		t.Errorf("rubbish is kept: %d bytes", cap(s.rest))
	}
}

func TestChecksums(t *testing.T) {
	// The check values of the catalogues, over the digits 1 to 9.
	for name, want := range map[string]uint16{"xor": 0x31, "sum": 0xDD, "sum-complement": 0x22, "crc16-modbus": 0x4B37, "crc16-ccitt": 0x29B1} {
		if got := checksums()[name]([]byte("123456789")); got != want {
			t.Errorf("%s: %04X, want %04X", name, got, want)
		}
	}
}

func TestTextLines(t *testing.T) {
	event := func(match string) []Pattern { return []Pattern{{match, "event"}} }
	total := func(match string) []Pattern { return []Pattern{{match, "total"}} }
	in := Reading{Value: Event, In: 1, Stamp: "in", Once: 300 * time.Millisecond}
	out := Reading{Value: Event, Out: 1, Stamp: "out", Once: 300 * time.Millisecond}
	sealed := Text{Checksum: "xor", Patterns: total(`^\$(?P<part>C,(?P<in>\d+),(?P<out>\d+))\*(?P<sum>[0-9A-F]{2})$`)}
	modbus := Text{Checksum: "crc16-modbus", Patterns: total(`^(?P<in>\d+) (?P<out>\d+) (?P<sum>[0-9A-Fa-f]+)$`)}
	for name, test := range map[string]struct {
		settings Text
		line     string
		want     said
		no       bool // no pattern fits
		err      bool
	}{
		"one character, in":     {Text{Preset: "one-char"}, "I", said{reading: in}, false, false},
		"one character, out":    {Text{Preset: "one-char"}, "o", said{reading: out}, false, false},
		"one character, 1":      {Text{Preset: "one-char"}, "1", said{reading: in}, false, false},
		"one character, 2":      {Text{Preset: "one-char"}, "2", said{reading: out}, false, false},
		"one character, +":      {Text{Preset: "one-char"}, "+", said{reading: in}, false, false},
		"one character, -":      {Text{Preset: "one-char"}, "-", said{reading: out}, false, false},
		"one other character":   {Text{Preset: "one-char"}, "\r", said{}, true, false},
		"turned":                {Text{Preset: "one-char", Dirs: Dirs{In: []string{"O"}, Out: []string{"I"}}}, "I", said{reading: out}, false, false},
		"an unknown direction":  {Text{Preset: "one-char", Dirs: Dirs{In: []string{"+"}, Out: []string{"-"}}}, "1", said{reading: Reading{Value: Event}, undirected: 1}, false, false},
		"in-out":                {Text{Preset: "in-out"}, "IN=123 OUT=118", said{reading: Reading{In: 123, Out: 118}}, false, false},
		"in-out, otherwise":     {Text{Preset: "in-out", Modulus: 1000}, " in: 123, out: 118 ", said{reading: Reading{In: 123, Out: 118, Modulus: 1000}}, false, false},
		"in-out, cut":           {Text{Preset: "in-out"}, "IN=123 OUT=", said{}, true, false},
		"in-out, at modulus":    {Text{Preset: "in-out", Modulus: 123}, "IN=123 OUT=118", said{reading: Reading{In: 123, Out: 118, Modulus: 123}}, false, true},
		"in-out, no number":     {Text{Preset: "in-out"}, "IN=99999999999999999999 OUT=1", said{reading: Reading{In: 1<<64 - 1}}, false, true},
		"vivotek":               {Text{Preset: "vivotek", Expect: 5 * time.Minute}, "Counting,Door 1,3,2,2026/03/02 09:00:00,2026/03/02 09:05:00", said{serial: "Door 1", reading: Reading{Value: Delta, In: 3, Out: 2, Period: 5 * time.Minute, Stamp: "Door 1 2026/03/02 09:00:00,2026/03/02 09:05:00"}}, false, false},
		"vivotek, its header":   {Text{Preset: "vivotek", Expect: 5 * time.Minute}, "Type,Rule,In,Out,Start,End", said{}, true, false},
		"direction and number":  {Text{Patterns: event(`^(?P<serial>\w+) (?P<dir>\w+) (?P<n>\d+)$`)}, "A7 exit 3", said{serial: "A7", reading: Reading{Value: Event, Out: 3}}, false, false},
		"Chinese words":         {Text{Patterns: event(`^方向(?P<dir>.)$`), Dirs: Dirs{In: []string{"进"}, Out: []string{"出"}}}, "方向出", said{reading: out}, false, false},
		"a balance, in":         {Text{Patterns: event(`^NET (?P<net>[+-]\d+)$`)}, "NET +1", said{reading: in}, false, false},
		"a balance, out":        {Text{Patterns: event(`^NET (?P<net>[+-]\d+)$`)}, "NET -1", said{reading: out}, false, false},
		"a balance, nobody":     {Text{Patterns: event(`^NET (?P<net>[+-]?\d+)$`)}, "NET 0", said{reading: Reading{Value: Event}}, false, false},
		"both ways at once":     {Text{Patterns: event(`^(?P<in>\d+)/(?P<out>\d+)$`)}, "1/2", said{reading: Reading{Value: Event, In: 1, Out: 2}}, false, false},
		"with a stamp":          {Text{Patterns: event(`^#(?P<stamp>\d+) (?P<dir>\w+)$`)}, "#17 in", said{reading: Reading{Value: Event, In: 1, Stamp: " 17"}}, false, false},
		"a sign of life":        {Text{Patterns: append(event(`^ALIVE$`), event(`^(?P<dir>[IO])$`)...)}, "ALIVE", said{reading: Reading{Value: Event}}, false, false},
		"the first that fits":   {Text{Patterns: append(event(`^IN(?P<in>\d)`), event(`^IN(?P<in>\d+)`)...)}, "IN15", said{reading: in}, false, false},
		"latin1":                {Text{Charset: "latin1", Patterns: total(`^entrées=(?P<in>\d+)$`)}, "entr\xe9es=7", said{reading: Reading{In: 7}}, false, false},
		"other bytes":           {Text{Patterns: total(`^.*=(?P<in>\d+)$`)}, "\xbd\xf8=7", said{reading: Reading{In: 7}}, false, false},
		"an optional total":     {Text{Patterns: total(`^(?P<in>\d+)(?:/(?P<out>\d+))?$`)}, "12", said{reading: Reading{In: 12}}, false, true},
		"sum over a part":       {sealed, "$C,1234,1200*44", said{reading: Reading{In: 1234, Out: 1200}}, false, false},
		"wrong sum over a part": {sealed, "$C,1234,1200*45", said{}, false, true},
		"damaged under a sum":   {sealed, "$C,1235,1200*44", said{}, false, true},
		"sum over all before":   {modbus, "7 5 4A37", said{}, false, true},
		"sum, high byte first":  {modbus, "1234 1200 553B", said{reading: Reading{In: 1234, Out: 1200}}, false, false},
		"sum, low byte first":   {modbus, "1234 1200 3b55", said{reading: Reading{In: 1234, Out: 1200}}, false, false},
		"sum, too long":         {modbus, "1234 1200 553B0", said{}, false, true},
	} {
		if ps := test.settings.Check(device.Address{Scheme: device.SchemeSerial}); len(ps) > 0 {
			t.Errorf("%s: %v", name, ps)
			continue
		}
		s, ok, err := newTextFormat(&test.settings).decode([]byte(test.line))
		if ok == test.no || test.err != (err != nil) || err != nil && !errors.Is(err, errGarbled) || s != test.want {
			t.Errorf("%s: %+v, %v, %v", name, s, ok, err)
		}
	}
}

func TestTextCheck(t *testing.T) {
	serial, listen := device.Address{Scheme: device.SchemeSerial}, device.Address{Scheme: device.SchemeTCPListen}
	of := func(match, value string) Text { return Text{Patterns: []Pattern{{match, value}}} }
	with := func(s Text, change func(*Text)) Text { change(&s); return s }
	good := of(`^(?P<serial>\w+) (?P<in>\d+)/(?P<out>\d+)$`, "total")
	for name, test := range map[string]struct {
		settings Text
		line     device.Address
		keys     []string
	}{
		"good":                         {good, serial, nil},
		"preset":                       {Text{Preset: "one-char"}, listen, nil},
		"not filled in":                {Text{}, serial, []string{"patterns"}},
		"unknown preset":               {Text{Preset: "in_out"}, serial, []string{"preset"}},
		"preset and patterns":          {with(good, func(s *Text) { s.Preset = "in-out" }), serial, []string{"patterns"}},
		"ends by name":                 {with(good, func(s *Text) { s.End = "crlf" }), serial, nil},
		"ends by characters":           {with(good, func(s *Text) { s.End = "\x03" }), serial, nil},
		"a misspelt end":               {with(good, func(s *Text) { s.End = "lfcr" }), serial, []string{"end"}},
		"a long end":                   {with(good, func(s *Text) { s.End = "-----" }), serial, []string{"end"}},
		"gbk":                          {with(good, func(s *Text) { s.Charset = "gbk" }), serial, []string{"charset"}},
		"a word in both directions":    {with(good, func(s *Text) { s.Dirs = Dirs{[]string{"x", "y"}, []string{"Y"}} }), serial, []string{"dirs"}},
		"an unknown checksum":          {with(good, func(s *Text) { s.Checksum = "crc32" }), serial, []string{"checksum"}},
		"a checksum nowhere":           {with(good, func(s *Text) { s.Checksum = "xor" }), serial, []string{"patterns[0].match"}},
		"a sum of no kind":             {of(`(?P<in>\d+)\*(?P<sum>..)`, "total"), serial, []string{"patterns[0].match"}},
		"asked":                        {with(good, func(s *Text) { s.Ask = "R\r" }), serial, nil},
		"asked where devices come":     {with(good, func(s *Text) { s.Ask = "R\r" }), listen, []string{"ask"}},
		"asked at length":              {with(good, func(s *Text) { s.Ask = strings.Repeat("R", 257) }), serial, []string{"ask"}},
		"asked and expected":           {with(good, func(s *Text) { s.Ask, s.Expect = "R", time.Minute }), serial, []string{"expect"}},
		"expected in a year":           {with(good, func(s *Text) { s.Expect = 1000 * time.Hour }), serial, []string{"expect"}},
		"a modulus":                    {with(good, func(s *Text) { s.Modulus = 1_000_000 }), serial, nil},
		"a small modulus":              {with(good, func(s *Text) { s.Modulus = 9 }), serial, []string{"modulus"}},
		"a modulus of events":          {Text{Preset: "one-char", Modulus: 1000}, serial, []string{"modulus"}},
		"a serial that is seen":        {with(good, func(s *Text) { s.Serial = "A7" }), serial, nil},
		"a serial nobody sees":         {Text{Preset: "in-out", Serial: "A7"}, serial, []string{"serial"}},
		"deltas without a period":      {Text{Preset: "vivotek"}, listen, []string{"expect"}},
		"deltas with one":              {Text{Preset: "vivotek", Expect: 5 * time.Minute}, listen, nil},
		"deltas, asked for":            {with(of(`(?P<in>\d+)`, "delta"), func(s *Text) { s.Ask = "R" }), serial, nil},
		"no match":                     {of("", "total"), serial, []string{"patterns[0].match"}},
		"no value":                     {of(`(?P<in>\d+)`, ""), serial, []string{"patterns[0].value"}},
		"a level":                      {of(`(?P<in>\d+)`, "level"), serial, []string{"patterns[0].value"}},
		"not RE2":                      {of(`(?P<in>\d+)(?!x)`, "total"), serial, []string{"patterns[0].match"}},
		"an unknown group":             {of(`(?P<inn>\d+)`, "total"), serial, []string{"patterns[0].match"}},
		"a total of a balance":         {of(`(?P<net>\d+)`, "total"), serial, []string{"patterns[0].match"}},
		"a delta of nothing":           {of(`(?P<serial>\d+)`, "delta"), serial, []string{"patterns[0].match"}},
		"three ways at once":           {of(`(?P<in>\d+)(?P<dir>.)`, "event"), serial, []string{"patterns[0].match"}},
		"a number of no direction":     {of(`(?P<n>\d+)`, "event"), serial, []string{"patterns[0].match"}},
		"only signs of life":           {of(`ALIVE`, "event"), serial, []string{"patterns"}},
		"totals beside events":         {with(good, func(s *Text) { s.Patterns = append(s.Patterns, Pattern{`^(?P<dir>.)$`, "event"}) }), serial, []string{"patterns"}},
		"in and out on different ones": {Text{Patterns: []Pattern{{`I(?P<in>\d+)`, "total"}, {`O(?P<out>\d+)`, "total"}}}, serial, []string{"patterns"}},
		"two wrong patterns":           {Text{Patterns: []Pattern{{`(`, "total"}, {`x`, "y"}}}, serial, []string{"patterns[0].match", "patterns[1].value"}},
		"everything wrong at once": {Text{Preset: "x", End: "x", Charset: "x", Checksum: "x", Ask: strings.Repeat("x", 300), Timeout: -1, Expect: 1}, serial,
			[]string{"preset", "end", "charset", "checksum", "ask", "timeout", "expect"}},
	} {
		checkKeys(t, name, test.settings.Check(test.line), test.keys)
	}
}

func TestTextPlaces(t *testing.T) {
	for _, test := range []struct {
		settings   Text
		key, value string
	}{
		{Text{Preset: "one-char"}, "serial", ""},
		{Text{Preset: "vivotek", Serial: "Door 1"}, "serial", "Door 1"},
		{Text{Preset: "in-out", Ask: "R1\r"}, "ask", `"R1\r"`},
	} {
		if key, value := test.settings.Place(); key != test.key || value != test.value {
			t.Errorf("place %s %s, want %s %s", key, value, test.key, test.value)
		}
	}
}

func FuzzTextLine(f *testing.F) {
	f.Add([]byte("IN=123 OUT=118\r\nI\nCounting,a,1,2,b,c\n$C,1,2*31\n"))
	f.Add([]byte("\xff\x00IN=99999999999999999999 OUT=1\n+5\r-3;"))
	formats := []*textFormat{
		newTextFormat(&Text{Preset: "one-char"}), newTextFormat(&Text{Preset: "in-out", Modulus: 1000}),
		newTextFormat(&Text{Preset: "vivotek", Expect: time.Minute}),
		newTextFormat(&Text{Charset: "latin1", Patterns: []Pattern{{`(?P<net>[+-]\d+)`, "event"}}}),
		newTextFormat(&Text{Checksum: "crc16-ccitt", Patterns: []Pattern{{`(?P<in>\d+),(?P<out>\d+)\*(?P<sum>\w*)`, "total"}}}),
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, format := range formats {
			whole, pieces := &splitter{end: format.settings.end()}, &splitter{end: format.settings.end()}
			all := whole.cut(b)
			var again [][]byte
			for _, c := range b {
				again = append(again, pieces.cut([]byte{c})...)
			}
			if !slices.EqualFunc(all, again, bytes.Equal) {
				t.Fatalf("%q in pieces: %q, at once %q", b, again, all)
			}
			for _, line := range all {
				s, ok, err := format.decode(line)
				if err != nil && !errors.Is(err, errGarbled) || err != nil && !ok || len(line) > longestLine {
					t.Fatalf("%q: %v", line, err)
				}
				if r := s.reading; err == nil && r.Modulus > 0 && max(r.In, r.Out) >= r.Modulus {
					t.Fatalf("%q: %+v", line, r)
				}
			}
			a := &textAnswer{format: format}
			if _, err := feed(t, b, a.find); err != nil && !errors.Is(err, errGarbled) {
				t.Fatalf("%q as an answer: %v", b, err)
			}
		}
	})
}
