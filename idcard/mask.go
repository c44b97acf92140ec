package idcard

import (
	"bytes"
	"encoding/binary"
)

// Mask takes what is personal out of the bytes that come from a reader, so that
// a recording of its line can leave the hall. It follows the frames of the SAM
// and keeps a byte only where it knows that byte to be harmless:
//
//   - preamble and length of every frame, its status words, and a checksum made
//     anew: right where it was right, wrong where it was wrong;
//   - the SAM's id, in an answer whose checksum is right;
//   - in the answer to a read, the lengths of text, photo and fingerprints and
//     the letter of the card's kind, each only with a value that it can have.
//
// Other text becomes asterisks, every other byte 00; that goes for whatever lies
// outside a frame and for the serial numbers a module may put into its answers
// to find and select. The count of bytes never changes, so a masked recording
// plays back as the original did, with a card of asterisks.
//
// A short answer is held back until its checksum is right, at most 20 bytes
// behind its length: a photo may hold a preamble, and bytes lost on the line may
// put text where a short answer would have its status. Longer ones pass as they
// come, since little of them passes: of text that a disturbed line moves to a
// wrong place there remains at most what looks like a length.
//
// The zero value is ready for use.
type Mask struct {
	held []byte // begun and not yet judged; at most headerSize+samIDFrame bytes
	long *masked
}

// masked is an answer with data of which all but the last bytes has passed.
type masked struct {
	shape
	at, end  int  // of the data: the byte that comes next, the end
	was, sum byte // exclusive or since the length, as received and as given out
}

// shape is what the data of an answer begins with, in bytes. Behind the text
// nothing may be kept.
type shape struct{ lengths, text int }

// samIDFrame is the length field of the longest answer that is judged as a
// whole, that with the SAM's id.
const samIDFrame = minLength + samIDSize

// shapes of answers with text, by length field.
var shapes = map[int]shape{
	minLength + cardSize:      {4, textSize}, // 30 01
	0x050A:                    {6, textSize}, // 30 10 with no fingerprint, one, two
	0x070A:                    {6, textSize},
	0x090A:                    {6, textSize},
	minLength + addressSize:   {0, addressSize}, // 30 03
	minLength + 2*addressSize: {0, 2 * addressSize},
	minLength + 3*addressSize: {0, 3 * addressSize},
	minLength + 4*addressSize: {0, 4 * addressSize},
}

// Received takes bytes that came from the reader and returns what can be given
// out by now, of them and of what was held back before.
func (m *Mask) Received(p []byte) []byte {
	out := make([]byte, 0, len(m.held)+len(p))
	for _, b := range p {
		m.held = append(m.held, b)
		if m.long != nil {
			out = m.data(out)
		} else {
			out = m.search(out)
		}
	}
	return out
}

// Cut says that what comes next does not go on with what came before: a request
// was sent, or the line was opened anew. A frame that has begun is given up, so
// that its rest lies outside a frame. It returns what was held back.
func (m *Mask) Cut() []byte {
	out := make([]byte, len(m.held))
	m.drop(len(m.held))
	m.long = nil
	return out
}

// search looks for a frame in what is held, by the rules of Framer.
func (m *Mask) search(out []byte) []byte {
	for {
		for n := min(len(m.held), len(preamble)); !bytes.HasPrefix(preamble, m.held[:n]); n = min(len(m.held), len(preamble)) {
			out = m.blank(out, 1)
		}
		if len(m.held) < headerSize {
			return out
		}
		length := int(binary.BigEndian.Uint16(m.held[len(preamble):]))
		switch {
		case length < minLength || length > maxLength:
			out = m.blank(out, len(preamble))
		case length <= samIDFrame:
			if len(m.held) < headerSize+length {
				return out
			}
			return m.short(out)
		default:
			if len(m.held) < headerSize+3 {
				return out
			}
			return m.begin(out, length)
		}
	}
}

// short gives out an answer that is there as a whole.
func (m *Mask) short(out []byte) []byte {
	whole := m.held[len(preamble):]
	valid := checksum(whole) == 0
	start := len(out) + len(preamble)
	out = append(out, m.held...)
	body := out[start+2 : len(out)-1] // status words and data
	switch {
	case !valid:
		clear(body)
	case len(whole) == 2+samIDFrame && body[2] == askSAMID.done:
	default:
		clear(body[3:])
	}
	out[len(out)-1] = remade(checksum(out[start:len(out)-1]), valid)
	m.drop(len(m.held))
	return out
}

// begin gives out the head of an answer with data.
func (m *Mask) begin(out []byte, length int) []byte {
	start := len(out) + len(preamble)
	out = append(out, m.held...)
	status := out[start+2:]
	if good := bytes.Equal(status, []byte{0, 0, 0x90}) || bytes.Equal(status, []byte{0x90, 0, 0x90}); !good {
		clear(status) // a failure has no data, so these are no status words
	}
	m.long = &masked{
		shape: shapes[length], end: length - minLength,
		was: checksum(m.held[len(preamble):]), sum: checksum(out[start:]),
	}
	m.drop(len(m.held))
	return out
}

// data gives out the data of an answer, two bytes at a time, and its checksum.
func (m *Mask) data(out []byte) []byte {
	l := m.long
	if l.at == l.end {
		out = append(out, remade(l.sum, l.was == m.held[0]))
		m.drop(1)
		m.long = nil
		return out
	}
	n := min(2, l.end-l.at)
	if len(m.held) < n {
		return out
	}
	l.was ^= checksum(m.held)
	var unit [2]byte
	switch in := l.at - l.lengths; {
	case n < 2 || in >= l.text:
	case in < 0 && isInnerLength(m.held), in == letterOffset && l.lengths > 0 && isKindLetter(m.held):
		unit = [2]byte(m.held)
	case in >= 0:
		unit = [2]byte{'*', 0}
	}
	l.sum ^= checksum(unit[:])
	l.at += n
	m.drop(n)
	return append(out, unit[:n]...)
}

// remade is a checksum for what is given out. A wrong one tells nothing of what
// came.
func remade(right byte, valid bool) byte {
	if valid {
		return right
	}
	return ^right
}

// isInnerLength knows the lengths of text, photo and fingerprints, big-endian.
func isInnerLength(b []byte) bool {
	return b[1] == 0 && (b[0] == 0 || b[0] == 1 || b[0] == 2 || b[0] == 4)
}

// isKindLetter knows a capital letter and a blank in UTF-16LE.
func isKindLetter(b []byte) bool {
	return b[1] == 0 && ('A' <= b[0] && b[0] <= 'Z' || b[0] == ' ' || b[0] == 0)
}

// blank gives out the first n held bytes as 00.
func (m *Mask) blank(out []byte, n int) []byte {
	m.drop(n)
	return append(out, make([]byte, n)...)
}

// drop forgets the first n held bytes.
func (m *Mask) drop(n int) {
	rest := copy(m.held, m.held[n:])
	clear(m.held[rest:])
	m.held = m.held[:rest]
}
