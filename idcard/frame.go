package idcard

import (
	"bytes"
	"encoding/binary"

	"github.com/hallagent/hallagent/device"
)

var sam = Kind{
	Kind:   device.Kind{Name: "sam", Doc: "desktop reader with plain SAM frames (GA 467) on a serial or TCP line, 115200 8N1 by default"},
	Framer: func() Frames { return new(Framer) },
}

// Frame is one whole answer as on the wire: preamble AA AA AA 96 69, length (2
// bytes, big-endian, of all that follows), SW1 SW2 SW3, data, checksum. It is
// of valid length and checksum when it comes from a Framer.
type Frame []byte

// Sizes of a frame, in bytes.
const (
	headerSize = 7      // preamble and length
	echoLength = 3      // of a request: command, parameter and checksum
	minLength  = 4      // SW1 SW2 SW3 and checksum
	maxLength  = 0x090A // text, photo and two fingerprints
)

var preamble = []byte{0xAA, 0xAA, 0xAA, 0x96, 0x69}

// Status is the module's status word of the answer, SW3.
func (f Frame) Status() byte { return f[headerSize+2] }

// Data is what follows the status words, without the checksum.
func (f Frame) Data() []byte { return f[headerSize+3 : len(f)-1] }

// checksum is the exclusive or of all bytes, GA 467: over everything between
// preamble and checksum.
func checksum(p []byte) byte {
	var sum byte
	for _, b := range p {
		sum ^= b
	}
	return sum
}

// Counts is the rubbish a Framer has met since it was made.
type Counts struct {
	Discarded      uint64 `json:"discarded"`       // bytes that belong to no valid frame
	Echoes         uint64 `json:"echoes"`          // requests that came back, as half-duplex adapters send them
	ChecksumErrors uint64 `json:"checksum_errors"` // frames dropped for their checksum
	BadLengths     uint64 `json:"bad_lengths"`     // preambles followed by an impossible length
}

// Framer finds the answers of a SAM in a stream of bytes, however the stream is
// cut. Bytes before a preamble are dropped, and so is, as a whole, a frame with
// a wrong checksum: a photo may hold a preamble, so a frame that is complete is
// never searched for another. After an impossible length the search goes on
// with the length bytes. A request that comes back is passed over: it is the one
// frame shorter than every answer. The zero value is ready for use.
type Framer struct {
	counts Counts
	buf    []byte
	at     int // of the first byte in buf that is not dealt with
}

// Feed takes what was read. The bytes are copied.
func (f *Framer) Feed(p []byte) {
	if f.at > 0 {
		f.buf = f.buf[:copy(f.buf, f.buf[f.at:])]
		f.at = 0
	}
	f.buf = append(f.buf, p...)
}

// Next returns the next whole frame, or false when it has not yet come.
func (f *Framer) Next() (Frame, bool) {
	for {
		f.search()
		rest := f.buf[f.at:]
		if len(rest) < headerSize {
			return nil, false
		}
		length := int(binary.BigEndian.Uint16(rest[len(preamble):]))
		if length < echoLength || length > maxLength {
			f.badLength()
			continue
		}
		size := headerSize + length
		if len(rest) < size {
			return nil, false
		}
		if length < minLength {
			if checksum(rest[len(preamble):size]) != 0 {
				f.badLength()
				continue
			}
			f.counts.Echoes++
			f.at += size
			continue
		}
		if checksum(rest[len(preamble):size]) != 0 {
			f.counts.ChecksumErrors++
			f.drop(size)
			continue
		}
		f.at += size
		return Frame(bytes.Clone(rest[:size])), true
	}
}

// badLength goes on behind a preamble that begins no frame.
func (f *Framer) badLength() {
	f.counts.BadLengths++
	f.drop(len(preamble))
}

// search drops what cannot begin a frame.
func (f *Framer) search() {
	rest := f.buf[f.at:]
	if i := bytes.Index(rest, preamble); i >= 0 {
		f.drop(i)
		return
	}
	for keep := min(len(rest), len(preamble)-1); ; keep-- {
		if bytes.HasPrefix(preamble, rest[len(rest)-keep:]) {
			f.drop(len(rest) - keep)
			return
		}
	}
}

func (f *Framer) drop(n int) {
	f.at += n
	f.counts.Discarded += uint64(n)
}

// Pending is the number of bytes of a frame that has begun and not ended.
func (f *Framer) Pending() int { return len(f.buf) - f.at }

// Reset forgets a frame that has begun; its bytes count as discarded. What was
// read of a person before is wiped.
func (f *Framer) Reset() {
	f.drop(f.Pending())
	clear(f.buf[:cap(f.buf)])
	f.buf, f.at = f.buf[:0], 0
}

// Counts tells the rubbish met so far.
func (f *Framer) Counts() Counts { return f.counts }
