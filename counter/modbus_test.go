package counter

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func two(order string) *Modbus {
	return &Modbus{Station: 1, Map: RegisterMap{
		In:  &Registers{Function: 3, Address: 0, Words: 2, Order: order},
		Out: &Registers{Function: 3, Address: 2, Words: 2, Order: order},
	}}
}

// The frames were computed by another program and agree with makers' samples.
var (
	lot = &Modbus{Station: 1, Map: RegisterMap{
		In:  &Registers{Function: 3, Address: 0x44, Words: 2, Order: "low"},
		Out: &Registers{Function: 3, Address: 0x46, Words: 2, Order: "low"},
	}}
	acs = &Modbus{Station: 1, Map: RegisterMap{In: &Registers{Function: 3, Address: 0x109, Words: 2, Order: "high"}}}
)

func TestGoldenFrames(t *testing.T) {
	for name, test := range map[string]struct {
		settings     *Modbus
		ask, answer  string
		in, out, mod uint64
	}{
		"high word first":              {two("high"), "01 03 00 00 00 04 44 09", "01 03 08 00 01 23 45 00 01 1F 00 16 7B", 74565, 73472, 1 << 32},
		"low word first":               {two("low"), "01 03 00 00 00 04 44 09", "01 03 08 23 45 00 01 1F 00 00 01 38 CA", 74565, 73472, 1 << 32},
		"LOT turnstile":                {lot, "01 03 00 44 00 04 04 1C", "01 03 08 04 D2 00 00 04 B0 00 00 66 FE", 1234, 1200, 1 << 32},
		"ACS-20B, one sensor, one way": {acs, "01 03 01 09 00 02 15 F5", "01 03 04 00 00 01 2C FA 7E", 300, 0, 1 << 32},
	} {
		t.Run(name, func(t *testing.T) {
			qs := test.settings.requests()
			if len(qs) != 1 {
				t.Fatalf("%d requests", len(qs))
			}
			if got := qs[0].rtu(); !bytes.Equal(got, unhex(test.ask)) {
				t.Errorf("request % X, want %s", got, test.ask)
			}
			data, missing, err := qs[0].rtuAnswer(unhex(test.answer))
			if err != nil || missing != 0 {
				t.Fatalf("answer: %d bytes missing, %v", missing, err)
			}
			r, err := test.settings.reading(time.Time{}, [][]byte{data})
			if err != nil || r.In != test.in || r.Out != test.out || r.Modulus != test.mod {
				t.Errorf("reading %+v, %v", r, err)
			}
			pdu := unhex(test.answer)
			pdu = pdu[1 : len(pdu)-2]
			mbap := append([]byte{0, 9, 0, 0, 0, byte(1 + len(pdu)), 1}, pdu...)
			if again, missing, err := qs[0].tcpAnswer(9)(mbap); err != nil || missing != 0 || !bytes.Equal(again, data) {
				t.Errorf("the same over TCP: % X, %d missing, %v", again, missing, err)
			}
		})
	}
	if got, want := lot.requests()[0].tcp(9), unhex("0009 0000 0006 01 03 0044 0004"); !bytes.Equal(got, want) {
		t.Errorf("over TCP: % X, want % X", got, want)
	}
	if got, want := (request{station: 1, function: 4, words: 4}).rtu(), unhex("01 04 00 00 00 04 F1 C9"); !bytes.Equal(got, want) {
		t.Errorf("function 4: % X, want % X", got, want)
	}
	for _, f := range []string{"01 83 02 C0 F1", "01 02 00 00 00 08 79 CC", "01 06 00 10 00 00 88 0F", "01 05 00 21 FF 00 DC 30", "01 10 00 00 00 02 04 00 00 00 00 F3 AF"} {
		if crc16(unhex(f)) != 0 {
			t.Errorf("checksum of %s", f)
		}
	}
	q := request{station: 1, function: 3, words: 4}
	if _, _, err := q.rtuAnswer(unhex("01 83 02 C0 F1")); !errors.Is(err, exception(2)) {
		t.Errorf("exception 2: %v", err)
	}
}

func TestRequests(t *testing.T) {
	at := func(function, address, words int) *Registers {
		return &Registers{Function: function, Address: address, Words: words, Order: "high"}
	}
	for name, test := range map[string]struct {
		in, out *Registers
		want    []request
	}{
		"side by side":      {at(3, 0, 2), at(3, 2, 2), []request{{2, 3, 0, 4}}},
		"out first":         {at(3, 2, 2), at(3, 0, 2), []request{{2, 3, 0, 4}}},
		"a gap between":     {at(3, 0, 2), at(3, 4, 2), []request{{2, 3, 0, 2}, {2, 3, 4, 2}}},
		"other function":    {at(3, 0, 2), at(4, 2, 2), []request{{2, 3, 0, 2}, {2, 4, 2, 2}}},
		"only out":          {nil, at(4, 7, 1), []request{{2, 4, 7, 1}}},
		"at the very end":   {at(3, 65534, 1), at(3, 65535, 1), []request{{2, 3, 65534, 2}}},
		"64 bits each":      {at(3, 8, 4), at(3, 12, 4), []request{{2, 3, 8, 8}}},
		"equal, functioned": {at(3, 0, 2), at(4, 0, 2), []request{{2, 3, 0, 2}, {2, 4, 0, 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Modbus{Station: 2, Map: RegisterMap{In: test.in, Out: test.out}}
			if got := s.requests(); !slices.Equal(got, test.want) {
				t.Fatalf("got %v, want %v", got, test.want)
			}
			if ps := s.Check(device.Address{Scheme: device.SchemeSerial}); len(ps) != 0 {
				t.Errorf("check: %v", ps)
			}
			// Each register holds its function and address: the totals must be made of the right ones.
			var answers [][]byte
			for _, q := range s.requests() {
				var d []byte
				for i := range q.words {
					a := int(q.address) + i
					d = append(d, q.function<<4|byte(a>>8), byte(a))
				}
				answers = append(answers, d)
			}
			want := func(g *Registers) (v uint64) {
				for i := 0; g != nil && i < g.Words; i++ {
					a := g.Address + i
					v = v<<16 | uint64(byte(g.Function<<4)|byte(a>>8))<<8 | uint64(byte(a))
				}
				return v
			}
			if r, err := s.reading(time.Time{}, answers); err != nil || r.In != want(test.in) || r.Out != want(test.out) {
				t.Errorf("reading %x, %x; want %x, %x", r.In, r.Out, want(test.in), want(test.out))
			}
		})
	}
}

func TestCheck(t *testing.T) {
	serial, tcp := device.Address{Scheme: device.SchemeSerial}, device.Address{Scheme: device.SchemeTCP}
	for name, test := range map[string]struct {
		change func(*Modbus)
		line   device.Address
		keys   []string
	}{
		"good":                              {func(*Modbus) {}, serial, nil},
		"good, line unknown":                {func(s *Modbus) { s.Station = 0 }, device.Address{}, nil},
		"no map":                            {func(s *Modbus) { s.Map = RegisterMap{} }, serial, []string{"map"}},
		"framing unknown":                   {func(s *Modbus) { s.Framing = "ascii" }, tcp, []string{"framing"}},
		"tcp framing on a tty":              {func(s *Modbus) { s.Framing = "tcp" }, serial, []string{"framing"}},
		"unit 0 over TCP":                   {func(s *Modbus) { s.Station = 0 }, tcp, nil},
		"unit 255 over TCP":                 {func(s *Modbus) { s.Station = 255 }, tcp, nil},
		"broadcast":                         {func(s *Modbus) { s.Station = 0 }, serial, []string{"station"}},
		"broadcast, rtu over tcp":           {func(s *Modbus) { s.Station, s.Framing = 0, "rtu" }, tcp, []string{"station"}},
		"reserved station":                  {func(s *Modbus) { s.Station = 248 }, serial, []string{"station"}},
		"no such unit":                      {func(s *Modbus) { s.Station = 256 }, tcp, []string{"station"}},
		"a function that writes":            {func(s *Modbus) { s.Map.In.Function = 6 }, serial, []string{"map.in.function"}},
		"three words":                       {func(s *Modbus) { s.Map.Out.Words = 3; s.Map.Out.Address = 10 }, serial, []string{"map.out.words", "map.out.words"}},
		"no order":                          {func(s *Modbus) { s.Map.In.Order = "" }, serial, []string{"map.in.order"}},
		"beyond the last":                   {func(s *Modbus) { s.Map.Out.Address = 65535 }, serial, []string{"map.out.address"}},
		"shared register":                   {func(s *Modbus) { s.Map.Out.Address = 1 }, serial, []string{"map"}},
		"negative timeout":                  {func(s *Modbus) { s.Timeout = -1 }, serial, []string{"timeout"}},
		"everything wrong at once":          {func(s *Modbus) { *s = Modbus{Station: -1, Framing: "x", Map: RegisterMap{In: &Registers{}}} }, tcp, []string{"framing", "station", "map.in.function", "map.in.words", "map.in.order"}},
		"one word needs no order":           {func(s *Modbus) { s.Map = RegisterMap{In: &Registers{Function: 4, Words: 1}} }, serial, nil},
		"24 bits":                           {func(s *Modbus) { s.Map.In.Bits, s.Map.Out.Bits = 24, 24 }, serial, nil},
		"24 bits in one word":               {func(s *Modbus) { s.Map = RegisterMap{In: &Registers{Function: 3, Words: 1, Bits: 24}} }, serial, []string{"map.in.bits"}},
		"12 bits":                           {func(s *Modbus) { s.Map.In.Bits, s.Map.Out.Bits = 12, 32 }, serial, []string{"map.in.bits", "map.out.bits"}},
		"24 bits one way":                   {func(s *Modbus) { s.Map.In.Bits = 24 }, serial, []string{"map.out.bits"}},
		"half as wide one way":              {func(s *Modbus) { s.Map.Out.Words = 1 }, serial, []string{"map.out.words"}},
		"a decimal counter":                 {func(s *Modbus) { s.Modulus = 1_000_000 }, serial, nil},
		"a modulus too wide":                {func(s *Modbus) { s.Modulus = 1<<32 + 1 }, serial, []string{"modulus"}},
		"a modulus too small":               {func(s *Modbus) { s.Modulus = 10 }, serial, []string{"modulus"}},
		"a modulus of deltas":               {func(s *Modbus) { s.Value, s.Modulus = "delta", 1000 }, serial, []string{"modulus"}},
		"deltas":                            {func(s *Modbus) { s.Value = "delta" }, serial, nil},
		"totals by name":                    {func(s *Modbus) { s.Value = "total" }, serial, nil},
		"an unknown value":                  {func(s *Modbus) { s.Value = "event" }, serial, []string{"value"}},
		"a level":                           {func(s *Modbus) { s.Value, s.Map = "level", RegisterMap{Level: &Registers{Function: 4, Words: 1}} }, serial, nil},
		"a level and totals":                {func(s *Modbus) { s.Value, s.Map.Level = "level", &Registers{Function: 4, Words: 1} }, serial, []string{"map"}},
		"a level without registers":         {func(s *Modbus) { s.Value = "level" }, serial, []string{"map"}},
		"registers of a level that is none": {func(s *Modbus) { s.Map.Level = &Registers{Function: 4, Words: 1} }, serial, []string{"map.level"}},
		"a level of three words": {func(s *Modbus) {
			s.Value, s.Map = "level", RegisterMap{Level: &Registers{Function: 4, Words: 3, Order: "low"}}
		}, serial, []string{"map.level.words"}},
		"nothing but minus ones":    {func(s *Modbus) { s.Map = RegisterMap{In: &Registers{-1, -1, -1, "", -1, false}}; s.Modulus = 1 }, serial, []string{"map.in.function", "map.in.words", "map.in.address", "map.in.order", "modulus"}},
		"a wrong order of one word": {func(s *Modbus) { s.Map = RegisterMap{In: &Registers{Function: 4, Words: 1, Order: "big"}} }, serial, []string{"map.in.order"}},
	} {
		s := two("high")
		test.change(s)
		var keys []string
		for _, p := range s.Check(test.line) {
			keys = append(keys, p.Key)
			if p.Cause == "" || p.Hint == "" {
				t.Errorf("%s: %s has no cause or no hint", name, p.Key)
			}
		}
		if !slices.Equal(keys, test.keys) {
			t.Errorf("%s: problems %v, want %v", name, keys, test.keys)
		}
	}
}

// Each width, order and value, from the bytes of the registers to the reading.
func TestRegisters(t *testing.T) {
	in := func(r Registers) RegisterMap { r.Function = 3; return RegisterMap{In: &r} }
	level := func(r Registers) RegisterMap { r.Function = 3; return RegisterMap{Level: &r} }
	for name, test := range map[string]struct {
		settings Modbus
		data     string
		want     Reading
	}{
		"16 bits":                       {Modbus{Map: in(Registers{Words: 1})}, "FFFE", Reading{In: 65534, Modulus: 1 << 16}},
		"16 bits, bytes swapped":        {Modbus{Map: in(Registers{Words: 1, Swap: true})}, "3412", Reading{In: 0x1234, Modulus: 1 << 16}},
		"24 bits, high first":           {Modbus{Map: in(Registers{Words: 2, Order: "high", Bits: 24})}, "A512 3456", Reading{In: 0x123456, Modulus: 1 << 24}},
		"24 bits, low first":            {Modbus{Map: in(Registers{Words: 2, Order: "low", Bits: 24})}, "3456 A512", Reading{In: 0x123456, Modulus: 1 << 24}},
		"24 bits, low first, swapped":   {Modbus{Map: in(Registers{Words: 2, Order: "low", Bits: 24, Swap: true})}, "5634 12A5", Reading{In: 0x123456, Modulus: 1 << 24}},
		"32 bits, high first":           {Modbus{Map: in(Registers{Words: 2, Order: "high"})}, "1234 5678", Reading{In: 0x12345678, Modulus: 1 << 32}},
		"32 bits, low first":            {Modbus{Map: in(Registers{Words: 2, Order: "low"})}, "5678 1234", Reading{In: 0x12345678, Modulus: 1 << 32}},
		"32 bits, swapped":              {Modbus{Map: in(Registers{Words: 2, Order: "high", Swap: true})}, "3412 7856", Reading{In: 0x12345678, Modulus: 1 << 32}},
		"64 bits, high first":           {Modbus{Map: in(Registers{Words: 4, Order: "high"})}, "0123 4567 89AB CDEF", Reading{In: 0x0123456789ABCDEF}},
		"64 bits, low first":            {Modbus{Map: in(Registers{Words: 4, Order: "low"})}, "CDEF 89AB 4567 0123", Reading{In: 0x0123456789ABCDEF}},
		"a decimal counter":             {Modbus{Modulus: 1_000_000, Map: in(Registers{Words: 2, Order: "high"})}, "000F 423F", Reading{In: 999_999, Modulus: 1_000_000}},
		"a delta":                       {Modbus{Value: "delta", Map: in(Registers{Words: 1})}, "0007", Reading{Value: Delta, In: 7}},
		"a level":                       {Modbus{Value: "level", Map: level(Registers{Words: 1})}, "002A", Reading{Value: Level, People: 42}},
		"a level below nobody, 16 bits": {Modbus{Value: "level", Map: level(Registers{Words: 1})}, "FFFE", Reading{Value: Level}},
		"a level below nobody, 24 bits": {Modbus{Value: "level", Map: level(Registers{Words: 2, Order: "low", Bits: 24})}, "FFFE 00FF", Reading{Value: Level}},
		"a level below nobody, 64 bits": {Modbus{Value: "level", Map: level(Registers{Words: 4, Order: "high"})}, "FFFF FFFF FFFF FFFF", Reading{Value: Level}},
	} {
		got, err := test.settings.reading(time.Time{}, [][]byte{unhex(test.data)})
		if err != nil || got != test.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, test.want)
		}
	}
	decimal := Modbus{Modulus: 1_000_000, Map: in(Registers{Words: 2, Order: "high"})}
	if _, err := decimal.reading(time.Time{}, [][]byte{unhex("000F 4240")}); !errors.Is(err, errGarbled) {
		t.Errorf("a total at its modulus: %v", err)
	}
}

// Whatever the settings, only the functions 3 and 4 go out, and none of the
// frames that move or clear something.
func TestOnlyReads(t *testing.T) {
	never := []string{
		"01 02 00 00 00 08 79 CC", "01 06 00 10 00 00 88 0F", "01 05 00 21 FF 00 DC 30", "01 10 00 00 00 02 04 00 00 00 00 F3 AF",
	}
	asked := 0
	for function := range 256 {
		for _, value := range []string{"total", "delta", "level"} {
			for _, address := range []int{0, 0x10, 0x21, 65534} {
				g := &Registers{Function: function, Address: address, Words: 2, Order: "high"}
				s := &Modbus{Station: 1, Value: value, Map: RegisterMap{In: g}}
				if value == "level" {
					s.Map = RegisterMap{Level: g}
				}
				st, err := modbusKind().station(device.Address{Scheme: device.SchemeSerial}, s)
				if err != nil || len(s.Check(device.Address{Scheme: device.SchemeSerial})) > 0 {
					continue // never comes to a line
				}
				for _, q := range st.(*modbusStation).settings.requests() {
					asked++
					rtu, tcp := q.rtu(), q.tcp(1)
					if len(rtu) != 8 || rtu[1] != 3 && rtu[1] != 4 || len(tcp) != 12 || tcp[7] != rtu[1] {
						t.Errorf("function %d: % X, % X", function, rtu, tcp)
					}
					for _, f := range never {
						if bytes.Equal(rtu, unhex(f)) {
							t.Errorf("sends %s", f)
						}
					}
				}
			}
		}
	}
	if asked != 2*3*4 {
		t.Errorf("%d requests", asked)
	}
}

func TestAnswersThatDoNotFit(t *testing.T) {
	good := unhex("01 03 08 00 01 23 45 00 01 1F 00 16 7B")
	sealed := func(s string) []byte {
		b := unhex(s)
		crc := crc16(b)
		return append(b, byte(crc), byte(crc>>8))
	}
	q := request{station: 1, function: 3, words: 4}
	for n := range good {
		if data, missing, err := q.rtuAnswer(good[:n]); data != nil || missing < 1 || missing > len(good)-n || err != nil {
			t.Errorf("after %d bytes: %d missing, %v", n, missing, err)
		}
	}
	for bit := range 8 * len(good) {
		b := bytes.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		if _, _, err := q.rtuAnswer(b); !errors.Is(err, errGarbled) {
			t.Errorf("bit %d turned: %v", bit, err)
		}
	}
	for name, b := range map[string][]byte{
		"other station":    sealed("02 03 08 0001 2345 0001 1F00"),
		"other function":   sealed("01 04 08 0001 2345 0001 1F00"),
		"fewer registers":  sealed("01 03 04 0001 2345"),
		"other's refusal":  sealed("01 84 02"),
		"our own echo":     unhex("01 03 00 00 00 04 44 09"),
		"refusal, damaged": unhex("01 83 02 C0 F0"),
	} {
		if _, _, err := q.rtuAnswer(b); !errors.Is(err, errGarbled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, test := range map[string]struct {
		answer string
		want   error
	}{
		"foreign transaction": {"0100 0000 000B 01 0308 0001 2345 0001 1F00", errForeign},
		"other protocol":      {"0009 0001 000B 01 0308 0001 2345 0001 1F00", errForeign},
		"other unit":          {"0009 0000 000B 02 0308 0001 2345 0001 1F00", errGarbled},
		"length beyond":       {"0009 0000 00FF 01 0308", errForeign},
		"fewer registers":     {"0009 0000 0007 01 0304 0001 2345", errGarbled},
		"count against size":  {"0009 0000 0007 01 0308 0001 2345", errGarbled},
		"refusal":             {"0009 0000 0003 01 8302", exception(2)},
	} {
		if _, missing, err := q.tcpAnswer(9)(unhex(test.answer)); missing != 0 || !errors.Is(err, test.want) {
			t.Errorf("%s: %d missing, %v", name, missing, err)
		}
	}
	late := "0008 0000 0003 01 8306" + "0009 0000 000B 01 0308 0001 2345 0001 1F00"
	if data, _, err := q.tcpAnswer(9)(unhex(late)); err != nil || len(data) != 8 {
		t.Errorf("behind a late answer: % X, %v", data, err)
	}
}

func FuzzModbusAnswer(f *testing.F) {
	f.Add(unhex("01 03 08 00 01 23 45 00 01 1F 00 16 7B"), uint8(1), uint8(3), uint8(4))
	f.Add(unhex("01 83 02 C0 F1"), uint8(1), uint8(3), uint8(4))
	f.Add(unhex("0009 0000 000B 01 0308 0001 2345 0001 1F00"), uint8(1), uint8(3), uint8(4))
	f.Add(unhex("0008 0000 0003 01 8306 0009 0000 0005 07 0402 0001"), uint8(7), uint8(4), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, unit, function, words uint8) {
		q := request{station: unit, function: 3 + function%2, words: 1 + int(words)%125}
		for name, check := range map[string]answer{"rtu": q.rtuAnswer, "tcp": q.tcpAnswer(9)} {
			// As on a line: never beyond what is said to be missing.
			n := 0
			for {
				data, missing, err := check(b[:n:n])
				if err != nil {
					if data != nil || missing != 0 {
						t.Fatalf("%s: an error, and %d bytes, %d missing", name, len(data), missing)
					}
					break
				}
				if missing == 0 {
					if len(data) != 2*q.words {
						t.Fatalf("%s: %d bytes for %d registers", name, len(data), q.words)
					}
					break
				}
				if n += missing; n > len(b) {
					break
				}
			}
		}
	})
}
