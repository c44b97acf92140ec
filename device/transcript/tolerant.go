package transcript

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// patience is how often the same request in a row gets the same answer where
// the transcript goes on with another one.
const patience = 3

// exchange is a request and what the device said until the next one.
type exchange struct {
	request Burst // none where the device speaks first
	answers []Burst
}

// tolerant is a play under way.
type tolerant struct {
	Player
	rw        io.ReadWriter
	exchanges []exchange
	next      int    // the exchange that the transcript goes on with
	last      []byte // the request answered last
	repeats   int    // times it was, without going on
	in        []byte // not yet understood
}

// playTolerant answers whoever asks not quite what was asked when the transcript
// was made.
func (p Player) playTolerant(ctx context.Context, rw io.ReadWriter) error {
	t := &tolerant{Player: p, rw: rw, exchanges: exchanges(p.Bursts)}
	if len(t.exchanges) > 0 && t.exchanges[0].request.Bytes == nil {
		t.next = 1
		if err := t.answers(ctx, t.exchanges[0]); err != nil {
			return err
		}
	}
	buf := make([]byte, 4096)
	for t.next < len(t.exchanges) {
		n, err := rw.Read(buf)
		t.in = append(t.in, buf[:n]...)
		if err := t.hear(ctx); err != nil {
			return err
		}
		if err != nil && t.next < len(t.exchanges) {
			return fmt.Errorf("transcript line %d: wait for % X: %w", t.wanted().Line, clip(t.wanted().Bytes), err)
		}
	}
	return nil
}

func exchanges(bursts []Burst) (all []exchange) {
	for _, b := range bursts {
		switch {
		case b.Direction == Sent:
			all = append(all, exchange{request: b})
		case len(all) == 0:
			all = append(all, exchange{answers: []Burst{b}})
		default:
			last := &all[len(all)-1]
			last.answers = append(last.answers, b)
		}
	}
	return all
}

func (t *tolerant) wanted() Burst { return t.exchanges[t.next].request }

// hear answers every whole request that has come.
func (t *tolerant) hear(ctx context.Context) error {
	var strange []byte
	for len(t.in) > 0 && t.next < len(t.exchanges) {
		request, begun := t.understand()
		if request == nil && begun {
			break
		}
		if request == nil {
			strange = append(strange, t.in[0])
			t.in = t.in[1:]
			continue
		}
		t.refuse(strange)
		strange = nil
		t.in = t.in[len(request):]
		if err := t.answers(ctx, t.exchanges[t.choose(request)]); err != nil {
			return err
		}
	}
	if t.next < len(t.exchanges) {
		t.refuse(strange)
	}
	return nil
}

// understand gives the request of the transcript that has come, a longer before
// a shorter one; begun says that more may make one.
func (t *tolerant) understand() (request []byte, begun bool) {
	for _, e := range t.exchanges {
		r := e.request.Bytes
		if len(r) > len(request) && bytes.HasPrefix(t.in, r) {
			request = r
		}
		begun = begun || len(r) > len(t.in) && bytes.HasPrefix(r, t.in)
	}
	return request, begun
}

// choose gives the exchange that answers a request, by the rules of
// Player.Tolerant.
func (t *tolerant) choose(request []byte) int {
	if !bytes.Equal(request, t.last) {
		t.repeats = 0
	}
	t.last = request
	if bytes.Equal(request, t.wanted().Bytes) {
		t.repeats = 0
		t.next++
		return t.next - 1
	}
	before, after := -1, -1
	for i, e := range t.exchanges {
		switch {
		case !bytes.Equal(e.request.Bytes, request):
		case i < t.next:
			before = i
		case after < 0:
			after = i
		}
	}
	if before >= 0 && (t.repeats < patience || after < 0) {
		t.repeats++
		return before
	}
	t.tell("transcript line %d: sent % X, want % X; going on at line %d",
		t.wanted().Line, clip(request), clip(t.wanted().Bytes), t.exchanges[after].request.Line)
	t.repeats = 0
	t.next = after + 1
	return after
}

// refuse tells of bytes that are no request of the transcript.
func (t *tolerant) refuse(strange []byte) {
	if len(strange) > 0 {
		t.tell("transcript line %d: sent % X, want % X; this is nowhere in the transcript and gets no answer",
			t.wanted().Line, clip(strange), clip(t.wanted().Bytes))
	}
}

func (t *tolerant) tell(format string, args ...any) {
	if t.Mismatch != nil {
		t.Mismatch(fmt.Errorf(format, args...))
	}
}

func (t *tolerant) answers(ctx context.Context, e exchange) error {
	last := e.request.At
	for _, b := range e.answers {
		if err := t.answer(ctx, t.rw, b, b.At-last); err != nil {
			return fmt.Errorf("transcript line %d: %w", b.Line, err)
		}
		last = b.At
	}
	return nil
}

// clip keeps a message short.
func clip(p []byte) []byte { return p[:min(len(p), 32)] }
