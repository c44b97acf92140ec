package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"github.com/hallagent/hallagent/device"
)

// Status of an answer: SW1 and SW2 are the card's, SW3 is the module's.
var (
	swDone        = [3]byte{0, 0, 0x90}
	swFound       = [3]byte{0, 0, 0x9F}
	swNoContent   = [3]byte{0, 0, 0x91}
	swChecksum    = [3]byte{0, 0, 0x10}
	swLength      = [3]byte{0, 0, 0x11}
	swCommand     = [3]byte{0, 0, 0x21}
	swReadFailed  = [3]byte{0, 0, 0x41}
	swNoCard      = [3]byte{0, 0, 0x80}
	swNotSelected = [3]byte{0, 0, 0x81}
)

// bauds are the rates of command 60 nn, by nn.
var bauds = [...]int{115200, 57600, 38400, 19200, 9600}

// answer computes the answer frame, nil for none, and what time the module took
// for it after at.
func (r *Reader) answer(ctx context.Context, req request, at time.Time) (frame []byte, work time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.silent || r.mood.Wedged {
		return nil, 0, nil
	}
	if req.fault != ([3]byte{}) {
		return respond(req.fault), 0, nil
	}
	if f, ok := r.forced(req); ok {
		return f, 0, nil
	}
	if req.is(0x30, 0x01) || req.is(0x30, 0x10) {
		return r.read(ctx, req.para == 0x10, at)
	}
	return r.reply(req), 0, nil
}

// reply is the answer to all requests that need no work.
func (r *Reader) reply(req request) []byte {
	onCard := r.state == selected || r.state == done
	switch {
	case req.is(0x10, 0xFF), req.is(0x11, 0xFF):
		return respond(swDone)
	case req.is(0x12, 0xFF):
		return respond(swDone, r.samID()...)
	case req.is(0x20, 0x01):
		if r.state == lifted || r.state == done && !r.mood.FindsAgain {
			return respond(swNoCard)
		}
		r.state = found
		return respond(swFound, make([]byte, 4)...)
	case req.is(0x20, 0x02):
		if r.state != found && !(r.state == done && r.mood.Rereads) {
			return respond(swNotSelected)
		}
		r.state = selected
		return respond(swDone, make([]byte, 8)...)
	case req.is(0x30, 0x03) && onCard:
		return r.newAddresses()
	case req.is(0x30, 0x05) && onCard:
		return respond(swDone, r.card.management()...)
	case req.is(0x30, 0x03), req.is(0x30, 0x05):
		return respond(swReadFailed)
	case req.cmd == 0x60 && int(req.para) < len(bauds) && len(req.data) == 0:
		if r.baud != 0 {
			r.baud = bauds[req.para]
		}
		return respond(swDone)
	case req.cmd == 0x61 && req.para == 0xFF && len(req.data) == 1:
		return respond(swDone)
	}
	return respond(swCommand)
}

// samID is the module's, or a wrong one while it still wakes up.
func (r *Reader) samID() []byte {
	id := r.opts.SAMID
	if r.wrongIDs > 0 {
		for i := range id {
			id[i] ^= byte(r.wrongIDs * (i + 1))
		}
		r.wrongIDs--
	}
	return id[:]
}

func (r *Reader) newAddresses() []byte {
	if len(r.card.Addresses) > 0 {
		var data []byte
		for _, a := range r.card.Addresses {
			data = append(data, a[:]...)
		}
		return respond(swDone, data...)
	}
	if r.mood.PresenceOnce && r.denied {
		return nil
	}
	r.denied = true
	return respond(swNoContent)
}

// read takes the card's blocks; the lock is open while the module works, so that
// a card can be lifted or swapped in the midst. Called with r.mu held.
func (r *Reader) read(ctx context.Context, fingers bool, at time.Time) ([]byte, time.Duration, error) {
	if r.state != selected && !(r.state == done && r.mood.Rereads) {
		return respond(swReadFailed), 0, nil
	}
	card, work := r.card, r.opts.Work
	r.mu.Unlock()
	err := device.Pause(ctx, time.Until(at.Add(work)))
	r.mu.Lock()
	if err != nil {
		return nil, 0, err
	}
	if r.card != card { // lifted, or another one laid in its place
		return respond(swReadFailed), work, nil
	}
	r.state = done
	data := binary.BigEndian.AppendUint16(nil, uint16(len(card.Text)))
	data = binary.BigEndian.AppendUint16(data, uint16(len(card.Photo)))
	if fingers {
		data = binary.BigEndian.AppendUint16(data, uint16(len(card.Fingerprints)))
	}
	data = append(data, card.Text[:]...)
	data = append(data, card.Photo[:]...)
	if fingers {
		data = append(data, card.Fingerprints...)
	}
	return respond(swDone, data...), work, nil
}

var preamble = []byte{0xAA, 0xAA, 0xAA, 0x96, 0x69}

// respond builds an answer frame.
func respond(status [3]byte, data ...byte) []byte {
	f := append([]byte(nil), preamble...)
	f = binary.BigEndian.AppendUint16(f, uint16(len(status)+len(data)+1))
	f = append(f, status[:]...)
	f = append(f, data...)
	return append(f, xor(f[len(preamble):]))
}

func xor(b []byte) (sum byte) {
	for _, x := range b {
		sum ^= x
	}
	return sum
}

// request is one frame from the host, or what is wrong with it.
type request struct {
	cmd, para byte
	data      []byte
	size      int     // bytes on the line
	fault     [3]byte // status to answer with; zero if the frame is good
}

// is tells whether the request is this command without data.
func (q request) is(cmd, para byte) bool {
	return q.cmd == cmd && q.para == para && len(q.data) == 0
}

// requests cuts the host's bytes into requests.
type requests struct{ buf []byte }

// longestRequest is the length field of 61 FF nn, with some room.
const longestRequest = 16

func (in *requests) next() (request, bool) {
	head := len(preamble) + 2
	i := bytes.Index(in.buf, preamble)
	if i < 0 {
		in.buf = in.buf[max(0, len(in.buf)-len(preamble)+1):]
		return request{}, false
	}
	in.buf = in.buf[i:]
	if len(in.buf) < head {
		return request{}, false
	}
	n := int(binary.BigEndian.Uint16(in.buf[len(preamble):]))
	if n < 3 || n > longestRequest {
		in.buf = in.buf[head:]
		return request{size: head, fault: swLength}, true
	}
	if len(in.buf) < head+n {
		return request{}, false
	}
	f := in.buf[:head+n]
	in.buf = in.buf[head+n:]
	q := request{cmd: f[head], para: f[head+1], data: bytes.Clone(f[head+2 : len(f)-1]), size: len(f)}
	if xor(f[len(preamble):]) != 0 {
		q.fault = swChecksum
	}
	return q, true
}
