package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
)

// ReaderOptions says which reader is imitated.
type ReaderOptions struct {
	SAMID [16]byte      // little-endian u16, u16, u32, u32, u32; the zero value stands for a made-up one
	Baud  int           // bytes are paced at this rate; 0: as fast as it goes
	Work  time.Duration // what the module needs for a read before its first byte

	// Sent, if set, is called after each answer; at is when its last byte was
	// handed to the line.
	Sent func(frame []byte, at time.Time)
}

// madeUpSAMID prints as 05.01-20090227-0000000012-0003456789.
var madeUpSAMID = [16]byte{0x05, 0, 0x01, 0, 0x73, 0x8D, 0x32, 0x01, 0x0C, 0, 0, 0, 0x15, 0xBF, 0x34, 0}

// bauds are the rates of command 60 nn, by nn.
var bauds = [...]int{115200, 57600, 38400, 19200, 9600}

// Reader is a SAM reader for second-generation ID cards (GA 450, GA 467): it
// computes every answer from its state. A card is found once per laying: after
// a successful read find answers "no card" until it was lifted and laid again.
type Reader struct {
	opts ReaderOptions

	mu     sync.Mutex
	card   *Card
	state  cardState
	silent bool
	baud   int
}

// cardState is how far the lying card has got.
type cardState int

const (
	lifted cardState = iota
	laid
	found
	selected
	done // read; find denies it until it is lifted
)

// Status bytes SW3 of an answer.
const (
	swDone        = 0x90
	swFound       = 0x9F
	swNoContent   = 0x91
	swChecksum    = 0x10
	swLength      = 0x11
	swCommand     = 0x21
	swReadFailed  = 0x41
	swNoCard      = 0x80
	swNotSelected = 0x81
)

// NewReader returns a reader with no card on it.
func NewReader(o ReaderOptions) *Reader {
	if o.SAMID == ([16]byte{}) {
		o.SAMID = madeUpSAMID
	}
	return &Reader{opts: o, baud: o.Baud}
}

// Lay puts a card on the reader, in place of one that lies there.
func (r *Reader) Lay(c Card) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.card, r.state = &c, laid
}

// Lift takes the card away, at any moment: a read under way answers "reading
// failed" if the module had not got all of the card.
func (r *Reader) Lift() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.card, r.state = nil, lifted
}

// Silence makes the reader hear and not answer, as one that hangs.
func (r *Reader) Silence(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = on
}

// Serve answers on rw until it fails or ctx ends; it closes rw at the end.
func (r *Reader) Serve(ctx context.Context, rw io.ReadWriteCloser) error {
	defer rw.Close()
	defer context.AfterFunc(ctx, func() { rw.Close() })()
	var in requests
	buf := make([]byte, 256)
	for {
		n, err := rw.Read(buf)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("read request: %w", err)
		}
		heard := time.Now()
		in.buf = append(in.buf, buf[:n]...)
		for {
			req, ok := in.next()
			if !ok {
				break
			}
			if err := r.handle(ctx, rw, req, heard); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return fmt.Errorf("write answer: %w", err)
			}
		}
	}
}

// handle works on one request and sends the answer. A pseudo terminal delivers a
// request at once; the line would have taken its time, so the answer waits for it.
func (r *Reader) handle(ctx context.Context, w io.Writer, req request, heard time.Time) error {
	r.mu.Lock()
	baud := r.baud // a change of rate counts from the next exchange on
	r.mu.Unlock()
	if err := device.Pause(ctx, time.Until(heard.Add(lineTime(req.size, baud)))); err != nil {
		return err
	}
	frame, err := r.answer(ctx, req)
	if err != nil || frame == nil {
		return err
	}
	at, err := sendPaced(ctx, w, frame, baud, time.Now())
	if err == nil && r.opts.Sent != nil {
		r.opts.Sent(frame, at)
	}
	return err
}

// answer computes the answer frame; nil while the reader is silent.
func (r *Reader) answer(ctx context.Context, req request) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.silent {
		return nil, nil
	}
	switch {
	case req.fault != 0:
		return respond(req.fault), nil
	case req.is(0x10, 0xFF), req.is(0x11, 0xFF):
		return respond(swDone), nil
	case req.is(0x12, 0xFF):
		return respond(swDone, r.opts.SAMID[:]...), nil
	case req.is(0x20, 0x01):
		if r.state == lifted || r.state == done {
			return respond(swNoCard), nil
		}
		r.state = found
		return respond(swFound, make([]byte, 4)...), nil
	case req.is(0x20, 0x02):
		if r.state != found {
			return respond(swNotSelected), nil
		}
		r.state = selected
		return respond(swDone, make([]byte, 8)...), nil
	case req.is(0x30, 0x01):
		return r.read(ctx)
	case req.is(0x30, 0x03):
		if r.state != selected && r.state != done {
			return respond(swReadFailed), nil
		}
		return respond(swNoContent), nil
	case req.is(0x30, 0x05):
		if r.state != selected && r.state != done {
			return respond(swReadFailed), nil
		}
		return respond(swDone, r.card.management()...), nil
	case req.cmd == 0x60 && int(req.para) < len(bauds) && len(req.data) == 0:
		if r.baud != 0 {
			r.baud = bauds[req.para]
		}
		return respond(swDone), nil
	}
	return respond(swCommand), nil
}

// read takes the card's blocks; the lock is open while the module works, so that
// a card can be lifted or swapped in the midst. Called with r.mu held.
func (r *Reader) read(ctx context.Context) ([]byte, error) {
	if r.state != selected {
		return respond(swReadFailed), nil
	}
	r.mu.Unlock()
	err := device.Pause(ctx, r.opts.Work)
	r.mu.Lock()
	if err != nil {
		return nil, err
	}
	if r.state != selected { // lifted; a card laid in its place has not been selected
		return respond(swReadFailed), nil
	}
	r.state = done
	data := make([]byte, 0, 4+len(r.card.Text)+len(r.card.Photo))
	data = binary.BigEndian.AppendUint16(data, uint16(len(r.card.Text)))
	data = binary.BigEndian.AppendUint16(data, uint16(len(r.card.Photo)))
	data = append(data, r.card.Text[:]...)
	data = append(data, r.card.Photo[:]...)
	return respond(swDone, data...), nil
}

var preamble = []byte{0xAA, 0xAA, 0xAA, 0x96, 0x69}

// respond builds an answer frame: SW1 and SW2 are zero, sw3 as given.
func respond(sw3 byte, data ...byte) []byte {
	f := append([]byte(nil), preamble...)
	f = binary.BigEndian.AppendUint16(f, uint16(3+len(data)+1))
	f = append(f, 0, 0, sw3)
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
	size      int  // bytes on the line
	fault     byte // status to answer with; 0 if the frame is good
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
