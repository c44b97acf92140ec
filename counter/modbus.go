package counter

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hallagent/hallagent/device"
)

func modbusKind() Kind {
	return Kind{
		Kind: device.Kind{
			Name: "modbus",
			Doc:  "Modbus counters with their totals in registers: RTU on serial lines, Modbus TCP or RTU over TCP on the network",
		},
		Sensor:   Beam, // most are inputs behind a beam; a gate's settings say so
		Schemes:  []string{device.SchemeSerial, device.SchemeTCP},
		Settings: func() Settings { return new(Modbus) },
		station: stationOf("modbus", func(line device.Address, s *Modbus) station {
			return &modbusStation{settings: s, framing: s.framing(line)}
		}),
	}
}

// Modbus are the settings of kind modbus: which registers of which station hold
// the totals. Addresses are those of the protocol, counted from zero: what a
// manual calls 40001 is function 3, address 0; 30001 is function 4, address 0.
type Modbus struct {
	Station int           `yaml:"station"` // 1..247; over Modbus TCP 0..255
	Framing string        `yaml:"framing"` // tcp or rtu on a tcp:// line, tcp if empty; a serial line is always rtu
	Timeout time.Duration `yaml:"timeout"` // for an answer to begin; 500ms if 0
	Value   string        `yaml:"value"`   // total; delta: the registers fall to 0 when they are read; level: people inside. total if empty
	Modulus uint64        `yaml:"modulus"` // of totals that roll over before their width does, as decimal counters; 0: with their width
	Map     RegisterMap   `yaml:"map"`
}

const (
	framingTCP = "tcp"
	framingRTU = "rtu"
	valueTotal = "total"

	defaultTimeout = 500 * time.Millisecond
)

// Check returns everything that is wrong with the settings.
func (s *Modbus) Check(line device.Address) []Problem {
	var ps []Problem
	report := func(key, hint, cause string, args ...any) {
		ps = append(ps, Problem{Key: key, Cause: fmt.Sprintf(cause, args...), Hint: hint})
	}
	switch {
	case s.Framing != "" && s.Framing != framingTCP && s.Framing != framingRTU:
		report("framing", "use tcp or rtu", "%q is not known", s.Framing)
	case s.Framing == framingTCP && line.Scheme == device.SchemeSerial:
		report("framing", "leave it out: a serial line is always rtu", "a serial line cannot carry tcp framing")
	}
	if known := line.Scheme != ""; s.Station < 0 || s.Station > 255 || known && s.framing(line) == framingRTU && (s.Station < 1 || s.Station > 247) {
		report("station", "stations are 1 to 247; over Modbus TCP also 0 to 255", "%d is no station", s.Station)
	}
	ps = append(ps, checkTimeout(s.Timeout, defaultTimeout)...)
	switch {
	case s.Value != "" && s.Value != valueTotal && s.Value != string(Delta) && s.Value != string(Level):
		report("value", "total: counted since ever; delta: since the last reading; level: people inside", "%q is not known", s.Value)
	case s.value() == Level && s.Map.Level == nil:
		report("map", "give level, as in level: {function: 3, address: 0, words: 1}", "no register is named that shows the people inside")
	case s.value() == Level && (s.Map.In != nil || s.Map.Out != nil):
		report("map", "give level alone; in and out are of a counter of their own", "a level has neither in nor out")
	case s.value() != Level && s.Map.Level != nil:
		report("map.level", "write value: level, or leave it out", "is for value: level alone")
	case s.value() != Level && s.Map.In == nil && s.Map.Out == nil:
		report("map", "give in, out or both, as in {function: 3, address: 0, words: 2, order: high}", "no registers are named")
	}
	for _, r := range s.Map.all() {
		ps = append(ps, r.check()...)
		if span := r.modulus(); s.Modulus != 0 && (s.value() != Total || s.Modulus < 100 || span != 0 && s.Modulus > span) {
			report("modulus", "the number after which a total goes on from 0, such as 1000000; leave it out where it rolls over with its width", "%d does not fit %d bits of a total", s.Modulus, r.bits())
			break
		}
	}
	if in, out := s.Map.In, s.Map.Out; in != nil && out != nil {
		if in.Function == out.Function && in.Address < out.Address+out.Words && out.Address < in.Address+in.Words {
			report("map", "give each direction its own registers", "in and out share a register")
		}
		if in.Words != out.Words {
			report("map.out.words", "both directions must have the same width", "in has %d words and out %d", in.Words, out.Words)
		} else if in.bits() != out.bits() {
			report("map.out.bits", "both directions must have the same width", "in has %d bits and out %d", in.bits(), out.bits())
		}
	}
	return ps
}

// Place is the station with its registers: one module may count at several doors.
func (s *Modbus) Place() (key, value string) {
	value = strconv.Itoa(s.Station)
	for _, r := range s.Map.all() {
		value += fmt.Sprintf(" %s %d/%d", strings.TrimPrefix(r.key, "map."), r.Function, r.Address)
	}
	return "station", value
}

// Shares says what another counter of the same line has that this one needs for
// itself: a register, or the framing.
func (s *Modbus) Shares(line device.Address, other Settings) (key, value string) {
	o, modbus := other.(*Modbus)
	switch {
	case !modbus && s.framing(line) == framingTCP:
		return "framing", "a line of Modbus TCP"
	case !modbus:
		return "", ""
	case s.framing(line) != o.framing(line):
		return "framing", "a line of another framing"
	case s.Station != o.Station:
		return "", ""
	}
	for _, a := range s.Map.all() {
		for _, b := range o.Map.all() {
			if a.Function == b.Function && a.Address < b.Address+b.Words && b.Address < a.Address+a.Words {
				return a.key, fmt.Sprintf("register %d of station %d", max(a.Address, b.Address), s.Station)
			}
		}
	}
	return "", ""
}

// Measures says that it shows the people inside.
func (s *Modbus) Measures() bool { return s.value() == Level }

// framing is how requests are wrapped on that line.
func (s *Modbus) framing(line device.Address) string {
	switch {
	case line.Scheme == device.SchemeSerial:
		return framingRTU
	case s.Framing == "":
		return framingTCP
	}
	return s.Framing
}

// value is what the figures are.
func (s *Modbus) value() Value {
	if s.Value == valueTotal {
		return Total
	}
	return Value(s.Value)
}

// requests are what must be asked for a reading: one where the registers lie side
// by side, else one each. A total is never split: between two requests its low
// word can roll over.
func (s *Modbus) requests() (all []request) {
	for _, r := range s.Map.all() {
		all = append(all, request{station: byte(s.Station), function: byte(r.Function), address: uint16(r.Address), words: r.Words})
	}
	if len(all) < 2 {
		return all
	}
	a, b := all[0], all[1]
	if a.address > b.address {
		a, b = b, a
	}
	if a.function == b.function && int(a.address)+a.words == int(b.address) {
		a.words += b.words
		return []request{a}
	}
	return []request{a, b}
}

// reading decodes the data of the answers to requests, in their order.
func (s *Modbus) reading(at time.Time, answers [][]byte) (Reading, error) {
	r := Reading{At: at, Value: s.value()}
	find := func(g *Registers) uint64 {
		for i, q := range s.requests() {
			first := g.Address - int(q.address)
			if int(q.function) == g.Function && first >= 0 && first+g.Words <= q.words {
				return g.decode(answers[i][2*first:])
			}
		}
		panic("counter: requests do not cover the registers")
	}
	for _, g := range s.Map.all() {
		v := find(g.Registers)
		switch g.key {
		case "map.in":
			r.In = v
		case "map.out":
			r.Out = v
		case "map.level":
			r.People = g.people(v)
		}
		if r.Value == Total {
			r.Modulus = g.modulus()
		}
	}
	if s.Modulus != 0 {
		r.Modulus = s.Modulus
		if most := max(r.In, r.Out); most >= r.Modulus {
			return r, fmt.Errorf("%w: a total of %d, and the modulus is %d", errGarbled, most, r.Modulus)
		}
	}
	return r, nil
}

// modbusStation is a Modbus server ("slave") as its client sees it.
type modbusStation struct {
	settings *Modbus
	framing  string
}

func (s *modbusStation) read(ctx context.Context, w *wire, tries int) (Reading, error) {
	if s.settings.value() == Delta {
		tries = 1 // an answer that is lost has taken its passes with it: the next reading must say so
	}
	requests := s.settings.requests()
	mixable := s.framing == framingRTU && (len(requests) > 1 || w.shared[byte(s.settings.Station)])
	var answers [][]byte
	for _, q := range requests {
		data, err := s.ask(ctx, w, q, tries, mixable)
		if err != nil {
			return Reading{}, fmt.Errorf("read %d registers from %d of station %d: %w", q.words, q.address, q.station, err)
		}
		answers = append(answers, data)
	}
	return s.settings.reading(time.Now(), answers)
}

// ask asks again where it went wrong by chance. An answer over RTU does not say
// which registers it holds: where a station is asked for several, a late one would
// be taken for the next one's. So after a fault an anchor goes first.
func (s *modbusStation) ask(ctx context.Context, w *wire, q request, tries int, mixable bool) (data []byte, err error) {
	ask := w.askTCP
	if s.framing == framingRTU {
		ask = w.askRTU
	}
	timeout := cmp.Or(s.settings.Timeout, defaultTimeout)
	for range tries {
		if mixable && w.owes[q.station] {
			if err = w.anchor(ctx, q, timeout); transient(err) {
				continue
			} else if err != nil {
				return nil, err
			}
		}
		if data, err = ask(ctx, q, timeout); !transient(err) {
			return data, err
		}
		w.owe(q.station)
	}
	return nil, err
}
