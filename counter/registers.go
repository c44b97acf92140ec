package counter

import (
	"encoding/binary"
	"fmt"
)

// RegisterMap says where the figures are. A device that counts one way only has
// only that one.
type RegisterMap struct {
	In    *Registers `yaml:"in"`
	Out   *Registers `yaml:"out"`
	Level *Registers `yaml:"level"` // people inside, as a sensor above a zone sees them
}

// Registers are one figure of 16, 24, 32 or 64 bits. Totals and deltas are
// unsigned.
type Registers struct {
	Function int    `yaml:"function"` // 3 holding, 4 input registers
	Address  int    `yaml:"address"`  // of the first register, from 0
	Words    int    `yaml:"words"`    // 1, 2 or 4 registers of 16 bits
	Order    string `yaml:"order"`    // high or low: which word comes first; not needed for one word
	Bits     int    `yaml:"bits"`     // 24 in two words: the highest byte is something else; all if 0
	Swap     bool   `yaml:"swap"`     // the low byte of each register comes first
}

const (
	orderHigh = "high"
	orderLow  = "low"
)

// keyed are registers and where they stand in the settings.
type keyed struct {
	key string
	*Registers
}

// all are the registers that are named.
func (m RegisterMap) all() (named []keyed) {
	for _, r := range []keyed{{"map.in", m.In}, {"map.out", m.Out}, {"map.level", m.Level}} {
		if r.Registers != nil {
			named = append(named, r)
		}
	}
	return named
}

// check returns what is wrong with the registers by themselves.
func (r keyed) check() (ps []Problem) {
	report := func(key, hint, cause string, args ...any) {
		ps = append(ps, Problem{Key: r.key + "." + key, Cause: fmt.Sprintf(cause, args...), Hint: hint})
	}
	if r.Function != 3 && r.Function != 4 {
		report("function", "3 reads holding registers, 4 input registers", "%d is no function that reads registers", r.Function)
	}
	if r.Words != 1 && r.Words != 2 && r.Words != 4 {
		report("words", "1 is a 16 bit total, 2 is 32, 4 is 64", "%d words are no total", r.Words)
	} else if r.Bits != 0 && r.Bits != 16*r.Words && (r.Bits != 24 || r.Words != 2) {
		report("bits", "leave it out; 24 is for two words whose highest byte is not part of the total", "%d bits do not fit %d words", r.Bits, r.Words)
	}
	if r.Address < 0 || r.Address+max(r.Words, 1) > 1<<16 {
		report("address", "addresses count from zero: 40001 in a manual is address 0 with function 3", "%d is no register address", r.Address)
	}
	if order := r.Order; order != orderHigh && order != orderLow && (order != "" || r.Words != 1) {
		report("order", "high: the word of higher value has the lower address; low: the other way round. The wrong one shows as leaps of 65536", "%q is not known", order)
	}
	return ps
}

// bits is the width of the figure.
func (g *Registers) bits() int {
	if g.Bits == 0 {
		return 16 * g.Words
	}
	return g.Bits
}

// modulus is where a total of this width rolls over; 0 stands for 2^64.
func (g *Registers) modulus() uint64 { return 1 << max(g.bits(), 0) } // a shift by 64 gives 0

// decode puts the figure together from the bytes as they come.
func (g *Registers) decode(b []byte) (v uint64) {
	for i := range g.Words {
		w := i
		if g.Order == orderLow {
			w = g.Words - 1 - i
		}
		word := binary.BigEndian.Uint16(b[2*w:])
		if g.Swap {
			word = word<<8 | word>>8
		}
		v = v<<16 | uint64(word)
	}
	return v & (g.modulus() - 1)
}

// people reads the figure as a level. Sensors that balance their own passes show
// less than nobody as a negative number, in two's complement.
func (g *Registers) people(v uint64) uint64 {
	if v>>(g.bits()-1) == 1 {
		return 0
	}
	return v
}
