package idcard

import (
	"bytes"

	"github.com/hallagent/hallagent/device"
)

// sam55aa is a microcontroller board between line and module. It has frames of
// its own and carries the module's bytes in them, in pieces:
//
//	55 AA · n · up to 254 bytes · checksum
//
// n counts what follows, the checksum included, which is the complement of the
// exclusive or of all bytes from n on. The format is read off the published
// constants of one board (S50 and S70 card notices); others may differ.
var sam55aa = Kind{
	Kind:   device.Kind{Name: "sam-55aa", Doc: "microcontroller board that carries SAM frames in frames of its own (55 AA) on a serial or TCP line"},
	Framer: func() Frames { return new(boardFramer) },
	Wrap:   wrapBoard,
}

const (
	boardHead  = 3   // 55 AA and n
	boardPiece = 254 // most bytes of the module in one frame
)

var boardMark = []byte{0x55, 0xAA}

func boardChecksum(p []byte) byte { return ^checksum(p) }

func wrapBoard(request []byte) []byte {
	var out []byte
	for len(request) > 0 {
		n := min(len(request), boardPiece)
		p := append([]byte{boardMark[0], boardMark[1], byte(n + 1)}, request[:n]...)
		out = append(append(out, p...), boardChecksum(p[len(boardMark):]))
		request = request[n:]
	}
	return out
}

// boardFramer unpacks the board's frames and leaves their content to a Framer.
type boardFramer struct {
	module Framer
	counts Counts // of the board's frames
	buf    []byte
}

func (f *boardFramer) Feed(p []byte) { f.buf = append(f.buf, p...) }

// Next unpacks until the module's next frame is whole.
func (f *boardFramer) Next() (Frame, bool) {
	for {
		if frame, ok := f.module.Next(); ok {
			return frame, true
		}
		if !f.unpack() {
			return nil, false
		}
	}
}

// unpack feeds the content of one board frame to the module's framer, or drops
// one that is broken. It is false while there is none.
func (f *boardFramer) unpack() bool {
	i := bytes.Index(f.buf, boardMark)
	if i < 0 {
		i = len(f.buf)
		if i > 0 && f.buf[i-1] == boardMark[0] {
			i--
		}
	}
	f.drop(i)
	if len(f.buf) < boardHead {
		return false
	}
	n := int(f.buf[2])
	if n < 2 {
		f.counts.BadLengths++
		f.drop(len(boardMark))
		return true
	}
	size := boardHead + n
	if len(f.buf) < size {
		return false
	}
	if boardChecksum(f.buf[2:size-1]) != f.buf[size-1] {
		f.counts.ChecksumErrors++
		f.drop(size)
		return true
	}
	f.module.Feed(f.buf[boardHead : size-1])
	f.shift(size)
	return true
}

func (f *boardFramer) drop(n int) {
	f.counts.Discarded += uint64(n)
	f.shift(n)
}

func (f *boardFramer) shift(n int) {
	rest := copy(f.buf, f.buf[n:])
	clear(f.buf[rest:])
	f.buf = f.buf[:rest]
}

func (f *boardFramer) Pending() int { return len(f.buf) + f.module.Pending() }

func (f *boardFramer) Reset() {
	f.drop(len(f.buf))
	f.module.Reset()
}

func (f *boardFramer) Counts() Counts {
	c := f.module.Counts()
	c.Discarded += f.counts.Discarded
	c.ChecksumErrors += f.counts.ChecksumErrors
	c.BadLengths += f.counts.BadLengths
	return c
}
