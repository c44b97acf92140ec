package transcript

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"
)

// Player takes the device's place on a line.
type Player struct {
	Bursts []Burst
	Pace   bool // answer as slowly as the device did, else at once

	// Tolerant plays to whoever asks in another order or number than was
	// recorded: how often a reader is asked for a card before one comes is chance.
	// A request that the transcript goes on with is answered as recorded. Any
	// other that stands before gets the answer it had at its last place there
	// again, without going on, three times in a row at most if it also stands
	// further on. One that stands further on is answered from there; what lies
	// between is left out. What stands nowhere gets no answer.
	Tolerant bool
	// Mismatch, if set, is told with the line of the transcript what Tolerant
	// left out or did not answer.
	Mismatch func(error)
}

// Play waits for what the transcript says was sent to the device, and answers
// as the device did. It returns nil after the last burst. What is sent
// otherwise is an error that names the line of the transcript, unless Tolerant.
// Who ends ctx closes rw as well, which ends a wait for bytes.
func (p Player) Play(ctx context.Context, rw io.ReadWriter) error {
	if p.Tolerant {
		return p.playTolerant(ctx, rw)
	}
	last := time.Duration(0)
	for _, b := range p.Bursts {
		var err error
		if b.Direction == Sent {
			err = expect(rw, b.Bytes)
		} else {
			err = p.answer(ctx, rw, b, b.At-last)
		}
		if err != nil {
			return fmt.Errorf("transcript line %d: %w", b.Line, err)
		}
		last = b.At
	}
	return nil
}

// expect reads byte by byte what must come and no more, so that it stops at the
// first wrong one instead of waiting for a whole that never comes.
func expect(r io.Reader, want []byte) error {
	got := make([]byte, len(want))
	for n := 0; n < len(want); {
		m, err := r.Read(got[n:])
		n += m
		if !bytes.HasPrefix(want, got[:n]) {
			return fmt.Errorf("sent % X, want % X", got[:n], want)
		}
		if err != nil && n < len(want) {
			return fmt.Errorf("sent % X and then %w, want % X", got[:n], err, want)
		}
	}
	return nil
}

func (p Player) answer(ctx context.Context, w io.Writer, b Burst, pause time.Duration) error {
	if p.Pace && pause > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	_, err := w.Write(b.Bytes)
	return err
}
