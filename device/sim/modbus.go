package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
)

// ModbusOptions says which Modbus counter is imitated. Totals roll over at the
// width of their registers.
type ModbusOptions struct {
	Station byte
	In, Out ModbusRegisters
	Start   [2]uint64 // totals in and out it begins with
	Baud    int       // bytes on a serial line are paced at this rate; 0: as fast as it goes
}

// ModbusRegisters hold one total.
type ModbusRegisters struct {
	Function byte // 3 holding, 4 input registers
	Address  uint16
	Words    int  // 1, 2 or 4; 0: there is no such total
	LowFirst bool // the word of lower value has the lower address
}

// ModbusCounter is an entrance counter that shows its totals in registers. No
// other register exists, and nothing can be written.
type ModbusCounter struct {
	opts ModbusOptions

	mu     sync.Mutex
	totals [2]uint64
	silent bool
	asked  uint64
}

// NewModbusCounter returns a counter that nobody has passed yet.
func NewModbusCounter(o ModbusOptions) *ModbusCounter {
	return &ModbusCounter{opts: o, totals: o.Start}
}

// Pass lets people through.
func (c *ModbusCounter) Pass(in, out uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totals[0] += in
	c.totals[1] += out
}

// Totals is what has been counted, without the rollover of the registers.
func (c *ModbusCounter) Totals() (in, out uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.totals[0], c.totals[1]
}

// Reset sets the totals to zero, as a power failure does.
func (c *ModbusCounter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totals = [2]uint64{}
}

// Silence makes the counter count and not answer.
func (c *ModbusCounter) Silence(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = on
}

// Asked is how many requests have come for this station, answered or not.
func (c *ModbusCounter) Asked() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
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
	return a
}

// registers lays the totals out, by address.
func (c *ModbusCounter) registers(function byte) map[int]uint16 {
	m := map[int]uint16{}
	for i, g := range []ModbusRegisters{c.opts.In, c.opts.Out} {
		if g.Function != function {
			continue
		}
		for w := range g.Words {
			place := g.Words - 1 - w // of this word's value, in words
			if g.LowFirst {
				place = w
			}
			m[int(g.Address)+w] = uint16(c.totals[i] >> (16 * place))
		}
	}
	return m
}

// modbusPause ends a frame that did not become whole.
const modbusPause = 20 * time.Millisecond

// ServeModbusRTU is a serial line with these counters on it. It answers until rw
// fails or ctx ends, and closes rw at the end.
func ServeModbusRTU(ctx context.Context, rw io.ReadWriteCloser, counters ...*ModbusCounter) error {
	defer rw.Close()
	defer context.AfterFunc(ctx, func() { rw.Close() })()
	var come []byte
	var last time.Time
	buf := make([]byte, 256)
	for {
		n, err := rw.Read(buf)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("read request: %w", err)
		}
		if time.Since(last) > modbusPause {
			come = nil
		}
		last = time.Now()
		come = append(come, buf[:n]...)
		const size = 8 // of every request that reads, and of those that write one value
		for len(come) >= size {
			if f := come[:size]; modbusCRC(f) != 0 {
				come = come[1:]
				continue
			}
			f := come[:size]
			come = come[size:]
			for _, c := range counters {
				if c.opts.Station != f[0] {
					continue
				}
				if err := c.answerRTU(ctx, rw, f, last); err != nil {
					return err
				}
			}
		}
	}
}

func (c *ModbusCounter) answerRTU(ctx context.Context, w io.Writer, f []byte, heard time.Time) error {
	pdu := c.answer(f[1 : len(f)-2])
	if pdu == nil {
		return nil
	}
	if err := device.Pause(ctx, time.Until(heard.Add(lineTime(len(f), c.opts.Baud)))); err != nil {
		return err
	}
	a := append([]byte{f[0]}, pdu...)
	a = binary.LittleEndian.AppendUint16(a, modbusCRC(a))
	if _, err := sendPaced(ctx, w, a, c.opts.Baud, time.Now()); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
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
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("accept: %w", err)
		}
		conns.Go(func() { serveMBAP(ctx, conn, counters) })
	}
}

// serveMBAP answers until the peer goes: what ends one connection is no trouble of the device.
func serveMBAP(ctx context.Context, conn net.Conn, counters []*ModbusCounter) error {
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
