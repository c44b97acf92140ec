package counter

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// The 7E dialect: infrared passenger flow TCP, after the maker's demonstration
// server. A frame is 7E … 7D, and between them, with 7C, 7D and 7E escaped,
//
//	FF FF FF FF | command 1 | parameter 1 | length 2, high byte first | text | CRC-16/MODBUS 2
//
// The checksum is that of all before it. Units differ in the order of its bytes.
const (
	sevenHead   = 0x7E
	sevenTail   = 0x7D
	sevenEscape = 0x7C // followed by the low half of the escaped byte with 5 above it

	sevenHeartbeat = 0xD1
	sevenCounts    = 0xD2
	sevenStored    = 0xD3

	sevenServer  = 0x02  // parameter of what the server sends
	sevenFixed   = 8     // bytes before the text
	sevenLongest = 65500 // bytes of text
)

// sevenFrame is a frame.
type sevenFrame struct {
	command, parameter byte
	text               string
}

func read7E(r *bufio.Reader) (sevenFrame, error) {
	if _, err := r.ReadByte(); err != nil { // the head, by which the dialect was chosen
		return sevenFrame{}, err
	}
	var body []byte
	for {
		b, err := r.ReadByte()
		if err != nil {
			return sevenFrame{}, err
		}
		if b == sevenTail {
			return parse7E(body)
		}
		if b == sevenEscape {
			if b, err = r.ReadByte(); err != nil {
				return sevenFrame{}, err
			}
			if b < 0x5C || b > 0x5E {
				return sevenFrame{}, fmt.Errorf("%w: escape %02X", errGarbled, b)
			}
			b += 0x20
		} else if b == sevenHead {
			return sevenFrame{}, fmt.Errorf("%w: a frame within a frame", errGarbled)
		}
		if len(body) == sevenFixed+sevenLongest+2 {
			return sevenFrame{}, fmt.Errorf("%w: frame too long", errGarbled)
		}
		body = append(body, b)
	}
}

// parse7E reads what was between the marks.
func parse7E(body []byte) (sevenFrame, error) {
	end := len(body) - 2
	if end < sevenFixed || binary.BigEndian.Uint32(body) != 0xFFFFFFFF || int(binary.BigEndian.Uint16(body[6:])) != end-sevenFixed {
		return sevenFrame{}, fmt.Errorf("%w: frame of %d bytes", errGarbled, len(body))
	}
	crc := crc16(body[:end])
	if sum := body[end:]; binary.LittleEndian.Uint16(sum) != crc && binary.BigEndian.Uint16(sum) != crc {
		return sevenFrame{}, fmt.Errorf("%w: wrong checksum", errGarbled)
	}
	return sevenFrame{body[4], body[5], string(body[sevenFixed:end])}, nil
}

// bytes makes the frame with the low byte of its checksum first.
func (f sevenFrame) bytes() []byte {
	body := []byte{0xFF, 0xFF, 0xFF, 0xFF, f.command, f.parameter}
	body = binary.BigEndian.AppendUint16(body, uint16(len(f.text)))
	body = append(body, f.text...)
	body = binary.LittleEndian.AppendUint16(body, crc16(body))
	b := []byte{sevenHead}
	for _, x := range body {
		if x >= sevenEscape && x <= sevenHead {
			b = append(b, sevenEscape, x-0x20)
		} else {
			b = append(b, x)
		}
	}
	return append(b, sevenTail)
}

// sevenMessage is the text of a frame:
//
//	D1     serial, time, battery of the receiver, of the transmitter, pairing, version, model
//	D2, D3 serial, time, in, out, and then as above
type sevenMessage struct {
	frame  sevenFrame
	fields []string
}

func (f sevenFrame) message() (sevenMessage, error) {
	m := sevenMessage{f, strings.Split(f.text, ",")}
	if f.command < sevenHeartbeat || f.command > sevenStored {
		return m, fmt.Errorf("%w: command %02X", errGarbled, f.command)
	}
	if m.field(0) == "" {
		return m, fmt.Errorf("%w: no serial number", errGarbled)
	}
	return m, nil
}

// field gives one that may be missing.
func (m sevenMessage) field(i int) string {
	if i >= len(m.fields) {
		return ""
	}
	return strings.TrimSpace(m.fields[i])
}

func (m sevenMessage) report() irReport {
	r := irReport{serial: m.field(0), powered: true}
	battery := 2
	if m.frame.command != sevenHeartbeat {
		battery = 4
		r.counts = true
		r.stored = m.frame.command == sevenStored
		r.stamp = clip(m.field(1), len(irStamp))
		r.in, r.out, r.bad = figures(m.field(2), m.field(3))
	}
	r.low = isLow(m.field(battery)) || isLow(m.field(battery+1))
	return r
}

// answer tells the unit whether all is well, the time, from when until when it
// counts, its cycles in minutes, and to count both ways. It cannot say that a unit
// is not registered.
func (m sevenMessage) answer(v irVerdict, s *IR, at time.Time) []byte {
	text := fmt.Sprintf("%d,%s,0000,2359,%d,%d,0,0,0,0",
		min(v, irFailed), s.clock(at), int(s.upload().Minutes()), int(s.Record.Minutes()))
	return sevenFrame{m.frame.command, sevenServer, text}.bytes()
}
