package counter

import (
	"bufio"
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device"
)

// The frames were computed by another program from the makers' documents.
const (
	faUploadText = "<UP_SENSOR_DATA_REQ><uuid>2410640A0B0C</uuid><rec_type>1</rec_type><in>6</in><out>5</out><time>20251118190500</time>" +
		"<battery_level>84</battery_level><warn_status>0</warn_status><batterytx_level>78</batterytx_level><signal_status>0</signal_status></UP_SENSOR_DATA_REQ>"
	sevenCountsLow  = "7E FF FF FF FF D2 01 00 31 32 30 31 39 30 31 30 31 41 30 30 31 2C 32 30 32 35 31 31 31 38 31 39 30 35 30 30 2C 35 32 2C 34 37 2C 38 34 2C 37 38 2C 31 2C 56 31 2E 32 2C 4D 38 0B 39 7D"
	sevenCountsHigh = "7E FF FF FF FF D2 01 00 31 32 30 31 39 30 31 30 31 41 30 30 31 2C 32 30 32 35 31 31 31 38 31 39 30 35 30 30 2C 35 32 2C 34 37 2C 38 34 2C 37 38 2C 31 2C 56 31 2E 32 2C 4D 38 39 0B 7D"
	sevenAnswer     = "7E FF FF FF FF D2 02 00 26 30 2C 32 30 32 35 31 31 31 38 31 39 30 35 30 31 2C 30 30 30 30 2C 32 33 35 39 2C 35 2C 30 2C 30 2C 30 2C 30 2C 30 E1 99 7D"
)

// evening is 19:05:01 at the hall.
var evening = time.Date(2025, 11, 18, 11, 5, 1, 0, time.UTC)

var tcpListen = device.Address{Scheme: device.SchemeTCPListen, Host: "127.0.0.1:8085"}

func framedFA(head, text string) []byte {
	return append(append(unhex(head), text...), 0xFA, 0xF6, 0xF5)
}

// message reads the one message that b is.
func message(t *testing.T, b []byte) irMessage {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(b))
	m, err := readIR(r, b[0])
	if err != nil {
		t.Fatal(err)
	}
	if r.Buffered() > 0 {
		t.Errorf("%d bytes are left", r.Buffered())
	}
	return m
}

func TestGoldenIR(t *testing.T) {
	unit := &IR{Serial: "2410640A0B0C"}
	for name, test := range map[string]struct {
		message []byte
		size    int
		report  irReport
		verdict irVerdict
		answer  []byte
	}{
		"FA, time": {
			framedFA("FA F5 F6 00 02 22 00 3A", "<TIME_SYSNC_REQ><uuid>2410640A0B0C</uuid></TIME_SYSNC_REQ>"), 69,
			irReport{serial: "2410640A0B0C"}, irStored,
			framedFA("FA F5 F6 00 02 22 00 C8", "<TIME_SYSNC_RES><uuid>2410640A0B0C</uuid><ret>0</ret><time>20251118190501</time>"+
				"<uploadInterval>0005</uploadInterval><dataStartTime>0000</dataStartTime><dataEndTime>2359</dataEndTime></TIME_SYSNC_RES>"),
		},
		"FA, upload": {
			framedFA("FA F5 F6 00 01 21 01 0B", faUploadText), 278,
			irReport{serial: "2410640A0B0C", counts: true, in: 6, out: 5, stamp: "20251118190500", powered: true}, irStored,
			framedFA("FA F5 F6 00 01 21 00 4E", "<UP_SENSOR_DATA_RES><uuid>2410640A0B0C</uuid><ret>0</ret></UP_SENSOR_DATA_RES>"),
		},
		"FA, not registered": {
			framedFA("FA F5 F6 BE EF 21 01 0B", faUploadText), 278,
			irReport{serial: "2410640A0B0C", counts: true, in: 6, out: 5, stamp: "20251118190500", powered: true}, irUnknown,
			framedFA("FA F5 F6 BE EF 21 00 4E", "<UP_SENSOR_DATA_RES><uuid>2410640A0B0C</uuid><ret>2</ret></UP_SENSOR_DATA_RES>"),
		},
		"7E, low byte first": {
			unhex(sevenCountsLow), 61,
			irReport{serial: "20190101A001", counts: true, in: 52, out: 47, stamp: "20251118190500", powered: true}, irStored,
			unhex(sevenAnswer),
		},
		"7E, high byte first": {
			unhex(sevenCountsHigh), 61,
			irReport{serial: "20190101A001", counts: true, in: 52, out: 47, stamp: "20251118190500", powered: true}, irStored,
			unhex(sevenAnswer),
		},
	} {
		t.Run(name, func(t *testing.T) {
			if len(test.message) != test.size {
				t.Fatalf("%d bytes, not %d", len(test.message), test.size)
			}
			m := message(t, test.message)
			if got := m.report(); got != test.report {
				t.Errorf("report %+v", got)
			}
			if got := m.answer(test.verdict, unit, evening); !bytes.Equal(got, test.answer) {
				t.Errorf("answer\n% X\n%q, want\n% X", got, got, test.answer)
			}
		})
	}
	if n := len(message(t, framedFA("FA F5 F6 00 01 21 01 0B", faUploadText)).answer(irStored, unit, evening)); n != 78+11 {
		t.Errorf("the answer's frame has %d bytes", n)
	}
}

func TestIR7EAnswers(t *testing.T) {
	m := message(t, unhex(sevenCountsLow))
	for _, test := range []struct {
		v    irVerdict
		s    IR
		want string
	}{
		{irFailed, IR{Upload: time.Hour, Record: 15 * time.Minute}, "1,20251118190501,0000,2359,60,15,0,0,0,0"},
		{irUnknown, IR{}, "1,20251118190501,0000,2359,5,0,0,0,0,0"},
		{irStored, IR{Timezone: "Europe/Berlin"}, "0,20251118120501,0000,2359,5,0,0,0,0,0"},
	} {
		f, err := read7E(bufio.NewReader(bytes.NewReader(m.answer(test.v, &test.s, evening))))
		if err != nil || f.text != test.want || f.command != sevenCounts || f.parameter != sevenServer {
			t.Errorf("%+v, %v; want %s", f, err, test.want)
		}
	}
}

func TestIR7EEscapes(t *testing.T) {
	f := sevenFrame{0x7C, 0x7D, "a\x7Cb\x7Dc\x7E,\x5C\x5D\x5E"}
	b := f.bytes()
	if bytes.ContainsAny(b[1:len(b)-1], "\x7D\x7E") {
		t.Errorf("marks within % X", b)
	}
	got, err := read7E(bufio.NewReader(bytes.NewReader(b)))
	if err != nil || got != f {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestIRSpaces reads an upload as the maker's document prints it.
func TestIRSpaces(t *testing.T) {
	text := `<?xml version="1.0" encoding="GBK"?>
<UP_SENSOR_DATA_ REQ >
 <uuid> 2410640A0B0C </ uuid>
 <rec_ type>2</rec_type><in> 3 </in><out>4</ out>
 <time>20251118190000</time><battery _level>20</battery_level>
 <warn_ status>0</warn_status><batterytx_level>3</batterytx_level><signal_status>1</signal_status>
</UP_SENSOR_DATA_REQ>`
	m, err := faFrame{kind: 0x21, data: []byte(text)}.message()
	if err != nil {
		t.Fatal(err)
	}
	want := irReport{serial: "2410640A0B0C", counts: true, stored: true, in: 3, out: 4, stamp: "20251118190000", powered: true, low: true}
	if got := m.report(); got != want {
		t.Errorf("%+v", got)
	}
}

func TestIRBatteries(t *testing.T) {
	for name, test := range map[string]struct {
		old, new string
		low      bool
	}{
		"well":                       {"", "", false},
		"it warns":                   {"<warn_status>0", "<warn_status>1", true},
		"below a quarter":            {"<battery_level>84", "<battery_level>24", true},
		"a quarter":                  {"<battery_level>84", "<battery_level>25", false},
		"the transmitter":            {"<batterytx_level>78", "<batterytx_level>7", true},
		"no battery at all":          {"<battery_level>84", "<battery_level>0", false},
		"the transmitter is offline": {"<batterytx_level>78</batterytx_level><signal_status>0", "<batterytx_level>7</batterytx_level><signal_status>1", false},
		"offline alone":              {"<signal_status>0", "<signal_status>1", false},
	} {
		m, err := faFrame{data: []byte(strings.Replace(faUploadText, test.old, test.new, 1))}.message()
		if err != nil || m.report().low != test.low {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func TestIRDamage(t *testing.T) {
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 0x40
		return b
	}
	seven := unhex(sevenCountsLow)
	upload := framedFA("FA F5 F6 00 01 21 01 0B", faUploadText)
	for name, b := range map[string][]byte{
		"another first byte": []byte("GET / HTTP/1.1\r\n\r\n"),
		"FA, head":           flip(upload, 2),
		"FA, tail":           flip(upload, len(upload)-1),
		"FA, no XML":         framedFA("FA F5 F6 00 01 21 00 05", "hello"),
		"FA, no uuid":        framedFA("FA F5 F6 00 01 21 00 08", "<a>1</a>"),
		"FA, not closed":     framedFA("FA F5 F6 00 01 21 00 0C", "<a><uuid>1</"),
		"FA, too long":       append(unhex("FA F5 F6 00 01 21 FF FF"), make([]byte, 70000)...),
		"7E, checksum":       flip(seven, len(seven)-2),
		"7E, text":           flip(seven, 20),
		"7E, length":         flip(seven, 8),
		"7E, no four FF":     flip(seven, 1),
		"7E, twice":          append([]byte{0x7E}, seven...),
		"7E, short":          unhex("7E FF FF FF FF D2 01 7D"),
		"7E, empty":          unhex("7E 7D"),
		"7E, escape":         unhex("7E FF FF 7C 01 7D"),
		"7E, endless":        append([]byte{0x7E}, bytes.Repeat([]byte{'x'}, 70000)...),
		"7E, command":        sevenFrame{0xD4, 1, "20190101A001"}.bytes(),
		"7E, no serial":      sevenFrame{0xD1, 1, ",1"}.bytes(),
	} {
		if m, err := readIR(bufio.NewReader(bytes.NewReader(b)), b[0]); !errors.Is(err, errGarbled) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	for name, text := range map[string]string{
		"no figures":  "20190101A001,20251118190500",
		"below zero":  "20190101A001,20251118190500,-1,3,84,78,1,V1.2,M8",
		"no number":   "20190101A001,20251118190500,3,x,84,78,1,V1.2,M8",
		"far too big": "20190101A001,20251118190500,99999999999,3,84,78,1,V1.2,M8",
	} {
		m, err := sevenFrame{sevenCounts, 1, text}.message()
		if err != nil || m.report().bad == nil || m.report().serial != "20190101A001" {
			t.Errorf("%s: %+v, %v", name, m.report(), err)
		}
	}
}

// TestIRClocks is the rules for stamps: when a record was, under which name it is
// remembered, and for how long.
func TestIRClocks(t *testing.T) {
	at := func(s string) time.Time {
		when, err := (&IR{}).parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	now := at("20251118190830")
	for name, test := range map[string]struct {
		stamp  string
		stored bool
		at     time.Time
		key    string
		once   time.Duration
	}{
		"cut to the minute":      {"20251118190800", false, at("20251118190800"), "20251118190800", 0},
		"at the period's border": {"20251118190330", false, at("20251118190330"), "20251118190330", 0},
		"a little ahead":         {"20251118191000", false, now, "20251118191000", 0},
		"more than a period off": {"20251118190329", false, now, "20251118190329", 0},
		"far ahead":              {"20251118191331", false, now, "20251118191331/6/5", time.Minute},
		"the factory's clock":    {"20191101110500", false, now, "20191101110500/6/5", time.Minute},
		"no clock":               {"00000000000000", false, now, "00000000000000/6/5", time.Minute},
		"rubbish":                {"noon", false, now, "noon/6/5", time.Minute},
		"nothing":                {"", false, now, "/6/5", time.Minute},
		"stored yesterday":       {"20251117190000", true, at("20251117190000"), "20251117190000", 0},
		"stored a week ago":      {"20251111190831", true, at("20251111190831"), "20251111190831", 0},
		"stored long ago":        {"20251111190829", true, now, "20251111190829/6/5", time.Minute},
		"stored without a clock": {"20191101110500", true, now, "20191101110500/6/5", time.Minute},
	} {
		r := (&IR{}).reading(irReport{in: 6, out: 5, stamp: test.stamp, stored: test.stored}, now)
		if !r.At.Equal(test.at) || r.Stamp != test.key || r.Once != test.once || r.Value != Delta || r.In != 6 || r.Out != 5 || r.Period != 5*time.Minute {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestIRSettings(t *testing.T) {
	for name, test := range map[string]struct {
		s    IR
		keys string
	}{
		"good":               {IR{Serial: "2410640A0B0C"}, ""},
		"all":                {IR{Serial: "a-1", Upload: time.Hour, Record: time.Minute, Timezone: "UTC"}, ""},
		"nothing":            {IR{}, "serial"},
		"a comma":            {IR{Serial: "1,2"}, "serial"},
		"seconds":            {IR{Serial: "1", Upload: 90 * time.Second}, "upload"},
		"too long":           {IR{Serial: "1", Upload: 24 * time.Hour}, "upload"},
		"less than nothing":  {IR{Serial: "1", Upload: -time.Minute}, "upload record"},
		"records are longer": {IR{Serial: "1", Record: 6 * time.Minute}, "record"},
		"no such zone":       {IR{Serial: "1", Timezone: "Asia/Atlantis"}, "timezone"},
	} {
		var keys []string
		for _, p := range test.s.Check(tcpListen) {
			keys = append(keys, p.Key)
			if p.Cause == "" || p.Hint == "" {
				t.Errorf("%s: %+v", name, p)
			}
		}
		if got := strings.Join(keys, " "); got != test.keys {
			t.Errorf("%s: problems with %q", name, got)
		}
	}
}

func FuzzIRFrame(f *testing.F) {
	f.Add(framedFA("FA F5 F6 00 01 21 01 0B", faUploadText))
	f.Add(unhex(sevenCountsHigh))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		m, err := readIR(bufio.NewReader(bytes.NewReader(b)), b[0])
		if err != nil {
			return
		}
		checkIR(t, m)
	})
}

func FuzzIRXML(f *testing.F) {
	f.Add([]byte(faUploadText))
	f.Add([]byte("<TIME_SYSNC_REQ><uuid>1</uuid></TIME_SYSNC_REQ>"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if m, err := (faFrame{kind: 0x21, data: text}).message(); err == nil {
			checkIR(t, m)
		}
	})
}

func FuzzIR7E(f *testing.F) {
	f.Add(byte(0xD2), "20190101A001,20251118190500,52,47,84,78,1,V1.2,M8")
	f.Fuzz(func(t *testing.T, command byte, text string) {
		frame := sevenFrame{command, 1, text[:min(len(text), sevenLongest)]}
		back, err := read7E(bufio.NewReader(bytes.NewReader(frame.bytes())))
		if err != nil || back != frame {
			t.Fatalf("%+v became %+v, %v", frame, back, err)
		}
		if m, err := frame.message(); err == nil {
			checkIR(t, m)
		}
	})
}

// checkIR wants a useful report, and an answer that is one whole frame.
func checkIR(t *testing.T, m irMessage) {
	r := m.report()
	if r.serial == "" || len(r.stamp) > len(irStamp) || r.in > 1<<32 || r.out > 1<<32 {
		t.Errorf("report %+v", r)
	}
	(&IR{}).reading(r, evening)
	a := m.answer(irStored, &IR{}, evening)
	back := bufio.NewReader(bytes.NewReader(a))
	if _, err := readIR(back, a[0]); err != nil || back.Buffered() > 0 {
		t.Errorf("answer %q: %v, %d bytes too many", a, err, back.Buffered())
	}
}
