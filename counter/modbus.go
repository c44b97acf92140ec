package counter

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
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
		station: func(line device.Address, s Settings) (station, error) {
			m, ok := s.(*Modbus)
			if !ok {
				return nil, settingsError("modbus", s)
			}
			return &modbusStation{settings: m, framing: m.framing(line)}, nil
		},
	}
}

// Modbus are the settings of kind modbus: which registers of which station hold
// the totals. Addresses are those of the protocol, counted from zero: what a
// manual calls 40001 is function 3, address 0; 30001 is function 4, address 0.
type Modbus struct {
	Station int           `yaml:"station"` // 1..247; over Modbus TCP 0..255
	Framing string        `yaml:"framing"` // tcp or rtu on a tcp:// line, tcp if empty; a serial line is always rtu
	Timeout time.Duration `yaml:"timeout"` // for an answer to begin; 500ms if 0
	Map     RegisterMap   `yaml:"map"`
}

// RegisterMap says where the totals are. A device that counts one way only has
// only that one.
type RegisterMap struct {
	In  *Registers `yaml:"in"`
	Out *Registers `yaml:"out"`
}

// Registers are one total of 16, 32 or 64 bits, unsigned.
type Registers struct {
	Function int    `yaml:"function"` // 3 holding, 4 input registers
	Address  int    `yaml:"address"`  // of the first register, from 0
	Words    int    `yaml:"words"`    // 1, 2 or 4 registers of 16 bits
	Order    string `yaml:"order"`    // high or low: which word comes first; not needed for one word
}

const (
	framingTCP = "tcp"
	framingRTU = "rtu"
	orderHigh  = "high"
	orderLow   = "low"

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
	if s.Timeout < 0 || s.Timeout > time.Minute {
		report("timeout", "500ms suits most devices", "%v is not between 0 and 1m", s.Timeout)
	}
	if s.Map.In == nil && s.Map.Out == nil {
		report("map", "give in, out or both, as in {function: 3, address: 0, words: 2, order: high}", "no registers are named")
	}
	for _, r := range []struct {
		key string
		*Registers
	}{{"map.in", s.Map.In}, {"map.out", s.Map.Out}} {
		if r.Registers == nil {
			continue
		}
		if r.Function != 3 && r.Function != 4 {
			report(r.key+".function", "3 reads holding registers, 4 input registers", "%d is no function that reads registers", r.Function)
		}
		if r.Words != 1 && r.Words != 2 && r.Words != 4 {
			report(r.key+".words", "1 is a 16 bit total, 2 is 32, 4 is 64", "%d words are no total", r.Words)
		}
		if r.Address < 0 || r.Address+max(r.Words, 1) > 1<<16 {
			report(r.key+".address", "addresses count from zero: 40001 in a manual is address 0 with function 3", "%d is no register address", r.Address)
		}
		if order := r.Order; order != orderHigh && order != orderLow && (order != "" || r.Words != 1) {
			report(r.key+".order", "high: the word of higher value has the lower address; low: the other way round. The wrong one shows as leaps of 65536", "%q is not known", order)
		}
	}
	if in, out := s.Map.In, s.Map.Out; in != nil && out != nil {
		if in.Function == out.Function && in.Address < out.Address+out.Words && out.Address < in.Address+in.Words {
			report("map", "give each direction its own registers", "in and out share a register")
		}
		if in.Words != out.Words {
			report("map.out.words", "both directions must have the same width", "in has %d words and out %d", in.Words, out.Words)
		}
	}
	return ps
}

// Place is the station.
func (s *Modbus) Place() (key, value string) { return "station", strconv.Itoa(s.Station) }

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

func (s *Modbus) timeout() time.Duration {
	if s.Timeout == 0 {
		return defaultTimeout
	}
	return s.Timeout
}

// requests are what must be asked for a reading: one where the totals lie side
// by side, else one each. A total is never split: between two requests its low
// word can roll over.
func (s *Modbus) requests() []request {
	of := func(r *Registers) request {
		return request{station: byte(s.Station), function: byte(r.Function), address: uint16(r.Address), words: r.Words}
	}
	in, out := s.Map.In, s.Map.Out
	switch {
	case out == nil:
		return []request{of(in)}
	case in == nil:
		return []request{of(out)}
	}
	a, b := of(in), of(out)
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
func (s *Modbus) reading(at time.Time, answers [][]byte) Reading {
	r := Reading{At: at}
	find := func(g *Registers) uint64 {
		if g == nil {
			return 0
		}
		if g.Words < 4 {
			r.Modulus = 1 << (16 * g.Words)
		}
		for i, q := range s.requests() {
			first := g.Address - int(q.address)
			if int(q.function) == g.Function && first >= 0 && first+g.Words <= q.words {
				return g.decode(answers[i][2*first:])
			}
		}
		panic("counter: requests do not cover the registers")
	}
	r.In, r.Out = find(s.Map.In), find(s.Map.Out)
	return r
}

// decode puts the total together; within a register the high byte comes first.
func (g *Registers) decode(b []byte) (v uint64) {
	for i := range g.Words {
		w := i
		if g.Order == orderLow {
			w = g.Words - 1 - i
		}
		v = v<<16 | uint64(binary.BigEndian.Uint16(b[2*w:]))
	}
	return v
}

// modbusStation is a Modbus server ("slave") as its client sees it.
type modbusStation struct {
	settings *Modbus
	framing  string
}

func (s *modbusStation) read(ctx context.Context, w *wire, tries int) (Reading, error) {
	var answers [][]byte
	for _, q := range s.settings.requests() {
		data, err := s.ask(ctx, w, q, tries)
		if err != nil {
			return Reading{}, fmt.Errorf("read %d registers from %d of station %d: %w", q.words, q.address, q.station, err)
		}
		answers = append(answers, data)
	}
	return s.settings.reading(time.Now(), answers), nil
}

// ask asks again where it went wrong by chance.
func (s *modbusStation) ask(ctx context.Context, w *wire, q request, tries int) (data []byte, err error) {
	ask := w.askTCP
	if s.framing == framingRTU {
		ask = w.askRTU
	}
	for range tries {
		if data, err = ask(ctx, q, s.settings.timeout()); !transient(err) {
			return data, err
		}
	}
	return nil, err
}
