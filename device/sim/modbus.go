package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
)

// ModbusOptions says which Modbus counter is imitated. Totals roll over at the
// width of their registers.
type ModbusOptions struct {
	Station byte
	In, Out ModbusRegisters
	Level   ModbusRegisters // people inside, below 0 too; for counters that show it
	Start   [2]uint64       // totals in and out it begins with
	Baud    int             // bytes on a serial line are paced at this rate; 0: as fast as it goes
}

// ModbusRegisters hold one figure.
type ModbusRegisters struct {
	Function byte // 3 holding, 4 input registers
	Address  uint16
	Words    int    // 1, 2 or 4; 0: there is no such figure
	LowFirst bool   // the word of lower value has the lower address
	Swapped  bool   // the byte of lower value comes first within a word
	Above    byte   // what stands in the highest byte, where the figure has 24 bits of two words
	Bits     int    // 24 for such; all if 0
	Modulus  uint64 // decimal counters roll over before their width does; 0: they do not
	Clears   bool   // each reading sets the figure to 0: it is what passed since
}

// ModbusCounter is an entrance counter that shows its totals in registers. No
// other register exists, and nothing can be written.
type ModbusCounter struct {
	tally
	opts    ModbusOptions
	cleared [2]uint64 // totals when they were last read
}

// NewModbusCounter returns a counter that nobody has passed yet.
func NewModbusCounter(o ModbusOptions) *ModbusCounter {
	c := &ModbusCounter{opts: o}
	c.totals, c.cleared = o.Start, o.Start
	return c
}

// Reset sets the totals to zero, as a power failure does.
func (c *ModbusCounter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totals, c.cleared = [2]uint64{}, [2]uint64{}
}

// Exception codes of MODBUS Application Protocol V1.1b3, §7.
const (
	illegalFunction = 1
	illegalAddress  = 2
	illegalValue    = 3
)

// answer computes the answer's PDU, nil for silence.
func (c *ModbusCounter) answer(pdu []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.silent || len(pdu) == 0 {
		return nil
	}
	refuse := func(code byte) []byte { return []byte{pdu[0] | 0x80, code} }
	if pdu[0] != 3 && pdu[0] != 4 {
		return refuse(illegalFunction)
	}
	if len(pdu) != 5 {
		return refuse(illegalValue)
	}
	first, n := int(binary.BigEndian.Uint16(pdu[1:])), int(binary.BigEndian.Uint16(pdu[3:]))
	if n < 1 || n > 125 {
		return refuse(illegalValue)
	}
	registers := c.registers(pdu[0])
	a := []byte{pdu[0], byte(2 * n)}
	for at := first; at < first+n; at++ {
		v, ok := registers[at]
		if !ok {
			return refuse(illegalAddress)
		}
		a = binary.BigEndian.AppendUint16(a, v)
	}
	c.clear(pdu[0], first, n)
	return a
}

// figures are the totals and the level with their registers.
func (c *ModbusCounter) figures() (registers [3]ModbusRegisters, values [3]uint64) {
	registers = [3]ModbusRegisters{c.opts.In, c.opts.Out, c.opts.Level}
	for i, total := range c.totals {
		if registers[i].Clears {
			total -= c.cleared[i]
		}
		values[i] = total
	}
	values[2] = c.totals[0] - c.totals[1] // of 2^64, so that it may be negative
	return registers, values
}

// registers lays the figures out, by address.
func (c *ModbusCounter) registers(function byte) map[int]uint16 {
	m := map[int]uint16{}
	registers, values := c.figures()
	for i, g := range registers {
		if g.Function != function {
			continue
		}
		v := values[i]
		if g.Modulus > 0 {
			v %= g.Modulus
		}
		if g.Bits == 24 {
			v = v%(1<<24) + uint64(g.Above)<<24
		}
		for w := range g.Words {
			place := g.Words - 1 - w // of this word's value, in words
			if g.LowFirst {
				place = w
			}
			word := uint16(v >> (16 * place))
			if g.Swapped {
				word = word%256*256 + word/256
			}
			m[int(g.Address)+w] = word
		}
	}
	return m
}

// clear begins anew what was read and clears itself.
func (c *ModbusCounter) clear(function byte, first, n int) {
	for i, g := range []ModbusRegisters{c.opts.In, c.opts.Out} {
		if at := int(g.Address); g.Clears && g.Function == function && first <= at && at < first+n {
			c.cleared[i] = c.totals[i]
		}
	}
}

func (c *ModbusCounter) pace() int { return c.opts.Baud }

// find looks for eight bytes with a right checksum: that is how long every request
// is that reads, and those that write one value.
func (c *ModbusCounter) find(come []byte) (request, rest []byte) {
	const size = 8
	for len(come) >= size {
		if modbusCRC(come[:size]) != 0 {
			come = come[1:]
			continue
		}
		request, come = come[:size], come[size:]
		if request[0] == c.opts.Station {
			return request, come
		}
	}
	return nil, come
}

func (c *ModbusCounter) reply(request []byte) []byte {
	pdu := c.answer(request[1 : len(request)-2])
	if pdu == nil {
		return nil
	}
	a := append([]byte{request[0]}, pdu...)
	a = binary.LittleEndian.AppendUint16(a, modbusCRC(a))
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spoil(a, len(a)-1)
}

// ServeModbusRTU is a serial line with these counters on it, as ServeBus.
func ServeModbusRTU(ctx context.Context, rw io.ReadWriteCloser, counters ...*ModbusCounter) error {
	devices := make([]OnBus, len(counters))
	for i, c := range counters {
		devices[i] = c
	}
	return ServeBus(ctx, rw, devices...)
}

// modbusCRC is CRC-16/MODBUS by its table of half bytes; it is 0 over a frame
// with its checksum behind it.
func modbusCRC(b []byte) uint16 {
	table := [16]uint16{
		0x0000, 0xCC01, 0xD801, 0x1400, 0xF001, 0x3C00, 0x2800, 0xE401,
		0xA001, 0x6C00, 0x7800, 0xB401, 0x5000, 0x9C01, 0x8801, 0x4400,
	}
	crc := uint16(0xFFFF)
	for _, x := range b {
		crc = crc>>4 ^ table[(crc^uint16(x))&15]
		crc = crc>>4 ^ table[(crc^uint16(x>>4))&15]
	}
	return crc
}

// ServeModbusTCP answers on every connection that comes to ln, as a gateway with
// these counters behind it, until ctx ends or ln fails. It closes ln.
func ServeModbusTCP(ctx context.Context, ln net.Listener, counters ...*ModbusCounter) error {
	return ServeTCP(ctx, ln, func(ctx context.Context, conn io.ReadWriteCloser) error {
		return serveMBAP(ctx, conn, counters)
	})
}

// serveMBAP answers until the peer goes.
func serveMBAP(ctx context.Context, conn io.ReadWriteCloser, counters []*ModbusCounter) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	for {
		head := make([]byte, 7)
		if _, err := io.ReadFull(conn, head); err != nil {
			return err
		}
		size := int(binary.BigEndian.Uint16(head[4:])) - 1
		if head[2] != 0 || head[3] != 0 || size < 1 || size > 253 {
			return errors.New("not Modbus TCP")
		}
		pdu := make([]byte, size)
		if _, err := io.ReadFull(conn, pdu); err != nil {
			return err
		}
		for _, c := range counters {
			if c.opts.Station != head[6] {
				continue
			}
			if a := c.answer(pdu); a != nil {
				f := binary.BigEndian.AppendUint16(head[:4:4], uint16(1+len(a)))
				if _, err := conn.Write(append(append(f, head[6]), a...)); err != nil {
					return err
				}
			}
		}
	}
}
