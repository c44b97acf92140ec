package sim

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
)

// ReaderOptions says which reader is imitated.
type ReaderOptions struct {
	SAMID [16]byte      // little-endian u16, u16, u32, u32, u32; the zero value stands for a made-up one
	Baud  int           // bytes are paced at this rate; 0: as fast as it goes
	Work  time.Duration // what the module needs for a read before its first byte
	Exact bool          // ends of answers are timed more exactly than timers do, at the price of a thread each

	// Sent, if set, is called after each answer; at is when its last byte was
	// handed to the line.
	Sent func(frame []byte, at time.Time)
}

// madeUpSAMID prints as 05.01-20090227-0000000012-0003456789.
var madeUpSAMID = [16]byte{0x05, 0, 0x01, 0, 0x73, 0x8D, 0x32, 0x01, 0x0C, 0, 0, 0, 0x15, 0xBF, 0x34, 0}

// Reader is a SAM reader for second-generation ID cards (GA 450, GA 467): it
// computes every answer from its state. A card is found once per laying: after
// a successful read find answers "no card" until it was lifted and laid again.
// Its mood says what is the matter with it.
type Reader struct {
	opts  ReaderOptions
	power chan struct{} // it was switched on

	mu       sync.Mutex
	card     *Card
	state    cardState
	denied   bool // "no new address" was said of this card
	silent   bool
	baud     int
	mood     Mood
	chance   *rand.Rand
	up       time.Time // it has started by then
	wrongIDs int       // still to be given
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

// NewReader returns a reader with no card on it.
func NewReader(o ReaderOptions) *Reader {
	if o.SAMID == ([16]byte{}) {
		o.SAMID = madeUpSAMID
	}
	r := &Reader{opts: o, power: make(chan struct{}, 1), baud: o.Baud}
	r.SetMood(Mood{})
	return r
}

// Lay puts a card on the reader, in place of one that lies there.
func (r *Reader) Lay(c Card) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.card, r.state, r.denied = &c, laid, false
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

// SetBaud sets the rate of a reader that has one, as somebody may have done
// before it came here.
func (r *Reader) SetBaud(baud int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.baud = baud
}

func (r *Reader) rate() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.baud
}

// Serve answers on rw until it fails or ctx ends; it closes rw at the end. Where
// rw is a PTY, a host that has set another rate than the reader's is not
// understood and does not understand.
func (r *Reader) Serve(ctx context.Context, rw io.ReadWriteCloser) error {
	defer r.ChangeMood(func(m *Mood) { m.Wedged = false })
	inner, cancel := context.WithCancel(ctx)
	var listening sync.WaitGroup
	defer listening.Wait()
	defer rw.Close()
	defer context.AfterFunc(inner, func() { rw.Close() })()
	defer cancel()
	s := &readerLine{Reader: r, rw: rw, heard: make(chan heard)}
	deaf := make(chan error, 1)
	listening.Go(func() { deaf <- s.listen(inner) })
	err := s.run(inner, deaf)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// ServeTCP answers on the connections that come to ln, one after another, as a
// serial device server does: who comes while one is open waits until it is
// closed. It ends when ctx does or ln fails, and closes ln.
func (r *Reader) ServeTCP(ctx context.Context, ln net.Listener) error {
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
		r.Serve(ctx, conn) // that a host goes is no trouble of the reader
	}
}

// readerLine is a reader at work on one line.
type readerLine struct {
	*Reader
	rw    io.ReadWriteCloser
	heard chan heard
	in    requests
	speed int       // baud of what is being said; a change of rate counts from the next exchange on
	free  time.Time // the line has carried what went before
}

// heard is what the host sent, and when it was there.
type heard struct {
	bytes []byte
	at    time.Time
}

// hosted is a line that knows the rate its host has set, in baud; 0: not known.
type hosted interface{ HostBaud() int }

// listen hands on what the host sends.
func (s *readerLine) listen(ctx context.Context) error {
	for {
		buf := make([]byte, 256)
		n, err := s.rw.Read(buf)
		if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		select {
		case s.heard <- heard{buf[:n], time.Now()}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *readerLine) run(ctx context.Context, deaf <-chan error) error {
	var up <-chan time.Time
	for {
		var err error
		select {
		case err := <-deaf:
			return err
		case <-s.power:
			s.in = requests{}
			s.mu.Lock()
			up = time.After(time.Until(s.up))
			s.mu.Unlock()
		case <-up:
			s.mu.Lock()
			banner := []byte(s.mood.Banner)
			s.speed = s.baud
			s.mu.Unlock()
			_, err = sendPaced(ctx, s, banner, s.speed, time.Now())
		case h := <-s.heard:
			err = s.hear(ctx, h)
		}
		if err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
	}
}

// hear takes in what the host sent and answers the requests in it.
func (s *readerLine) hear(ctx context.Context, h heard) error {
	s.mu.Lock()
	baud, echo, up := s.baud, s.mood.Echo, !time.Now().Before(s.up)
	s.mu.Unlock()
	if echo { // made by the adapter, at the host's rate
		if _, err := s.rw.Write(h.bytes); err != nil {
			return err
		}
	}
	if !up {
		return nil
	}
	if host := s.hostBaud(); host != 0 && baud != 0 && host != baud {
		h.bytes = misheard(h.bytes, host, baud)
	}
	s.in.buf = append(s.in.buf, h.bytes...)
	for {
		req, ok := s.in.next()
		if !ok {
			return nil
		}
		if err := s.handle(ctx, req, h.at); err != nil {
			return err
		}
	}
}

func (s *readerLine) hostBaud() int {
	if h, ok := s.rw.(hosted); ok {
		return h.HostBaud()
	}
	return 0
}

// Write sends what the host understands of b at the rate it has set.
func (s *readerLine) Write(b []byte) (int, error) {
	out := b
	if host := s.hostBaud(); host != 0 && s.speed != 0 && host != s.speed {
		out = misheard(b, s.speed, host)
	}
	if _, err := s.rw.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// nap waits exactly where that is wanted and the line can.
func (s *readerLine) nap(ctx context.Context, d time.Duration) error {
	line, ok := s.rw.(interface{ nap(time.Duration) })
	if !ok || !s.opts.Exact || d <= 0 {
		return device.Pause(ctx, d)
	}
	line.nap(d)
	return ctx.Err()
}

// handle works on one request and sends the answer. A pseudo terminal delivers a
// request at once; the line would have taken its time, so the answer waits for
// it. Each step counts from when the one before was due, not from when a timer
// came round to it: their lateness must not add up.
func (s *readerLine) handle(ctx context.Context, req request, at time.Time) error {
	s.speed = s.rate()
	if at.Before(s.free) {
		at = s.free
	}
	at = at.Add(lineTime(req.size, s.speed))
	if err := pauseUntil(ctx, s, at); err != nil {
		return err
	}
	frame, work, err := s.answer(ctx, req, at)
	if err != nil || frame == nil {
		return err
	}
	out := s.utter(req, frame)
	at = at.Add(work + out.delay)
	if err := pauseUntil(ctx, s, at); err != nil {
		return err
	}
	pace := s.speed
	if out.pace > 0 && (pace == 0 || out.pace < pace) {
		pace = out.pace
	}
	sent, err := out.send(ctx, s, pace, at)
	s.free = sent
	if err == nil && s.opts.Sent != nil && len(out.bytes) > 0 {
		s.opts.Sent(out.bytes, sent)
	}
	return err
}

// send sends the pieces, the first from start on. It returns when the last byte
// was handed to the line.
func (o sound) send(ctx context.Context, w io.Writer, baud int, start time.Time) (at time.Time, err error) {
	at = start
	for rest := o.bytes; len(rest) > 0; {
		n := len(rest)
		if o.pieces.Size > 0 {
			n = min(n, o.pieces.Size)
		}
		if at, err = sendPaced(ctx, w, rest[:n], baud, start); err != nil {
			return at, err
		}
		if rest = rest[n:]; len(rest) > 0 {
			if err := device.Pause(ctx, o.pieces.Pause); err != nil {
				return at, err
			}
			start = time.Now()
		}
	}
	return at, nil
}
