package sim

// GateOptions says which gate board of the DS205A class is imitated.
type GateOptions struct {
	Machine byte
	Start   [2]uint64 // totals left and right it begins with; left is in
	Baud    int       // bytes are paced at this rate; 0: as fast as it goes
}

// Gate is a swing or speed gate with a DS205A class board: it answers frames that
// begin with 7E by frames that begin with 7F. Its totals have 24 bits. It does
// what the commands say that clear a total, and remembers all that is no question.
type Gate struct {
	tally
	opts     GateOptions
	commands []byte
}

// NewGate returns a gate that nobody has passed yet.
func NewGate(o GateOptions) *Gate {
	g := &Gate{opts: o}
	g.totals = o.Start
	return g
}

// Commands are those that have come beside the question for the status.
func (g *Gate) Commands() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]byte(nil), g.commands...)
}

func (g *Gate) pace() int { return g.opts.Baud }

// find looks for 7E 00 machine command data×3 sum, where all eight bytes add up
// to 255.
func (g *Gate) find(come []byte) (request, rest []byte) {
	for i := 0; i+8 <= len(come); i++ {
		f := come[i : i+8]
		if f[0] == 0x7E && f[1] == 0 && f[2] == g.opts.Machine && gateSum(f) == 255 {
			return f, come[i+8:]
		}
	}
	return nil, come[max(0, len(come)-7):]
}

func (g *Gate) reply(request []byte) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked++
	switch command := request[3]; command {
	case 0x10:
	case 0x20, 0x21:
		g.totals[command-0x20] = 0
		fallthrough
	default:
		g.commands = append(g.commands, command)
	}
	if g.silent {
		return nil
	}
	a := []byte{0x7F, 0x12, g.opts.Machine, 0, 0, 0}
	for _, total := range g.totals {
		a = append(a, byte(total/65536), byte(total/256), byte(total))
	}
	a = append(a, 0xF0, 0x55, 0x18, 0, 0)
	a = append(a, byte(255-gateSum(a)))
	return g.spoil(a, len(a)-1)
}

// gateSum adds up bytes, modulo 256.
func gateSum(b []byte) int {
	sum := 0
	for _, x := range b {
		sum += int(x)
	}
	return sum % 256
}
