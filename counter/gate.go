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

func gateKind() Kind {
	return Kind{
		Kind: device.Kind{
			Name: "gate-7e7f",
			Doc:  "swing and speed gates with a DS205A class board (frames 7E and 7F) on RS-485, also behind a serial device server",
		},
		Sensor:   Gate,
		Schemes:  []string{device.SchemeSerial, device.SchemeTCP},
		Settings: func() Settings { return new(Gate7F) },
		station:  stationOf("gate-7e7f", func(_ device.Address, s *Gate7F) station { return &gateStation{s} }),
	}
}

// Gate7F are the settings of kind gate-7e7f.
type Gate7F struct {
	Station int           `yaml:"station"` // machine number, 1..255
	Left    string        `yaml:"left"`    // in or out: where the passes lead that the board counts as left; in if empty
	Timeout time.Duration `yaml:"timeout"` // for an answer to begin; 300ms if 0
}

const (
	leftIn  = "in"
	leftOut = "out"

	gateTimeout = 300 * time.Millisecond
)

// Check returns everything that is wrong with the settings.
func (s *Gate7F) Check(device.Address) (ps []Problem) {
	if s.Station < 1 || s.Station > 255 {
		ps = append(ps, Problem{"station", fmt.Sprintf("%d is no machine number", s.Station), "the machine number set at the gate's board, 1 to 255"})
	}
	if s.Left != "" && s.Left != leftIn && s.Left != leftOut {
		ps = append(ps, Problem{"left", fmt.Sprintf("%q is no direction", s.Left), "in or out: where people go who pass to the left, as the board counts them"})
	}
	return append(ps, checkTimeout(s.Timeout, gateTimeout)...)
}

// Turned says that left, which is the board's in, is out here.
func (s *Gate7F) Turned() bool { return s.Left == leftOut }

// Place is the machine number.
func (s *Gate7F) Place() (key, value string) { return "station", strconv.Itoa(s.Station) }

// The frames of a DS205A class board (its maker's protocol table; museum gates
// speak the same):
//
//	ask     7E 00 machine 10 00 00 00 sum
//	answer  7F version machine fault gate alarm left×3 right×3 infrared result volt 00 00 sum
//
// Totals are 24 bits, high byte first. Sum is the complement of the sum of all
// bytes before it.
const (
	gateAnswerHead = 0x7F
	gateAnswerSize = 18
	gateModulus    = 1 << 24
)

// gateStatus asks a machine for its status. The boards know commands that open,
// close and clear, so no frame is built from a command: this is the only one.
func gateStatus(machine byte) []byte {
	f := []byte{0x7E, 0x00, machine, 0x10, 0x00, 0x00, 0x00}
	return append(f, ^sum8(f))
}

// gateFind finds the answer of a machine in what has come. A frame is known by
// its length and its sum, since noise may stand before it and 7F within. Wrong
// is the last whole frame whose sum is wrong.
func gateFind(machine byte, come []byte) (frame []byte, missing int, wrong []byte, err error) {
	missing = gateAnswerSize
	for i, b := range come {
		if b != gateAnswerHead {
			continue
		}
		if rest := len(come) - i; rest < gateAnswerSize {
			missing = gateAnswerSize - rest
			break
		}
		frame := come[i : i+gateAnswerSize]
		switch {
		case frame[gateAnswerSize-1] != ^sum8(frame[:gateAnswerSize-1]):
			wrong = frame
		case frame[2] != machine:
			return nil, 0, nil, fmt.Errorf("%w: from machine %d, asked %d", errGarbled, frame[2], machine)
		default:
			return frame, 0, nil, nil
		}
	}
	switch {
	case len(come) > mostNoise:
		return nil, 0, wrong, fmt.Errorf("%w: %d bytes and no answer in them", errGarbled, len(come))
	case wrong != nil && missing == gateAnswerSize:
		return nil, 0, wrong, gateDamage(wrong)
	}
	return nil, missing, wrong, nil
}

// gateDamage says what is wrong with the sum of a frame.
func gateDamage(frame []byte) error {
	body, sum := frame[:gateAnswerSize-1], frame[gateAnswerSize-1]
	return fmt.Errorf("%w: checksum of % X is wrong, fits: %s", errGarbled, frame, fits(body, sum))
}

// fits names the rules by which a sum would be right: manuals err, and boards
// differ.
func fits(body []byte, sum byte) string {
	var names []string
	for _, rule := range []struct {
		name string
		sum  byte
	}{
		{"sum", sum8(body)}, {"negative sum", -sum8(body)}, {"xor", xor8(body)},
		{"complement without the head", ^sum8(body[1:])}, {"xor without the head", xor8(body[1:])},
	} {
		if rule.sum == sum {
			names = append(names, rule.name)
		}
	}
	if names == nil {
		return "no known rule"
	}
	return strings.Join(names, ", ")
}

// gateReading takes the totals out of an answer.
func (s *Gate7F) gateReading(at time.Time, frame []byte) Reading {
	r := Reading{At: at, In: uint24(frame[6:]), Out: uint24(frame[9:]), Modulus: gateModulus}
	if s.Left == leftOut {
		r.In, r.Out = r.Out, r.In
	}
	return r
}

func uint24(b []byte) uint64 { return uint64(b[0])<<16 | uint64(b[1])<<8 | uint64(b[2]) }

// gateStation is a gate's board as its line sees it.
type gateStation struct{ settings *Gate7F }

func (g *gateStation) read(ctx context.Context, w *wire, tries int) (Reading, error) {
	machine := byte(g.settings.Station)
	var wrong []byte
	find := func(come []byte) (frame []byte, missing int, err error) {
		frame, missing, wrong, err = gateFind(machine, come)
		return frame, missing, err
	}
	frame, err := w.ask(ctx, gateStatus(machine), find, gateAnswerSize, cmp.Or(g.settings.Timeout, gateTimeout), tries)
	if wrong != nil && transient(err) {
		err = gateDamage(wrong) // it says more than that nothing came behind it
	}
	if err != nil {
		return Reading{}, fmt.Errorf("read totals of machine %d: %w", machine, err)
	}
	return g.settings.gateReading(time.Now(), frame), nil
}
