package idcard

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hallagent/hallagent/device"
)

const (
	stall     = time.Second            // the longest pause within a frame
	aftermath = 100 * time.Millisecond // for what follows a frame with a wrong checksum
)

// unansweredError is a request without a valid answer in time.
type unansweredError struct {
	request string
	rubbish int  // bytes that came instead
	echoed  bool // all of them are the request itself
	begun   int  // bytes of an answer that stopped
}

func (e *unansweredError) Error() string {
	switch {
	case e.echoed:
		return e.request + ": no answer, only the request came back (an adapter that hears itself, or crossed wires)"
	case e.begun > 0:
		return fmt.Sprintf("%s: the answer stopped after %d bytes", e.request, e.begun)
	case e.rubbish > 0:
		return fmt.Sprintf("%s: no valid answer, %d bytes of rubbish (wrong baud rate or a disturbed line)", e.request, e.rubbish)
	}
	return e.request + ": no answer"
}

// passing says of an error that the line can still be used.
func passing(err error) bool {
	var status *StatusError
	var payload *PayloadError
	if errors.Is(err, device.ErrSilent) {
		return false
	}
	return errors.As(err, &status) || errors.As(err, &payload) || unanswered(err)
}

func unanswered(err error) bool {
	var e *unansweredError
	return errors.As(err, &e)
}

// garbled says of an unanswered request that something did come.
func garbled(err error) bool {
	var e *unansweredError
	return errors.As(err, &e) && e.rubbish > 0 && !e.echoed
}

func unlessPassing(err error) error {
	if passing(err) {
		return nil
	}
	return err
}

func hasStatus(err error, sw3 ...byte) bool {
	var status *StatusError
	return errors.As(err, &status) && bytes.IndexByte(sw3, status.SW3) >= 0
}

// ask sends a request and waits for its answer. What came before is dropped.
//
// A refusal is a *StatusError, an answer that can be none a *PayloadError, no
// answer an *unansweredError, and device.ErrSilent when after that nothing else
// is answered either. Any other error is the line's.
func (s *session) ask(q request) (Frame, error) {
	if s.astray {
		if err := s.settle(); err != nil {
			return nil, err
		}
	}
	return s.try(q)
}

// settle makes sure that no answer is owed any more after a request that stayed
// unanswered. The module answers one request after the other, and no other
// answer has the shape of the SAM's id: once that has come, whatever was late
// has come before it and was passed over. The status is for modules that do not
// give their id.
func (s *session) settle() error {
	var err error
	for _, anchor := range []request{askSAMID, askStatus} {
		if _, err = s.try(anchor); !unanswered(err) {
			s.astray = !passing(err) && err != nil
			return unlessPassing(err)
		}
	}
	return silent(err)
}

// silent is the error of a line on which nothing is answered.
func silent(err error) error {
	if garbled(err) {
		return fmt.Errorf("%w: %w", err, device.ErrGarbled)
	}
	return fmt.Errorf("%w: %w", err, device.ErrSilent)
}

// try sends a request once. What comes in another shape than its answer's is
// passed over: the late answer to an older one.
func (s *session) try(q request) (Frame, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	s.framer.Reset()
	if err := device.Drain(s.conn); err != nil {
		return nil, fmt.Errorf("%s: %w", q.name, err)
	}
	before := s.framer.Counts()
	f, odd, n, err := s.exchange(q)
	counts := s.framer.Counts()
	s.change(func(st *Status) { st.Counts = counts })
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.astray = true
		begun := s.framer.Pending()
		echoed := counts.Echoes > before.Echoes && counts.Discarded == before.Discarded && begun == 0
		return nil, missed(q, odd, &unansweredError{q.name, n, echoed, begun})
	case err != nil:
		return nil, fmt.Errorf("%s: %w", q.name, err)
	}
	s.online()
	s.heard()
	if f.Status() != q.done {
		return nil, statusError(q, f)
	}
	return f, nil
}

// exchange sends q and reads until its answer or the time limit. odd is the
// last valid frame that was none, n the number of bytes read.
//
// A frame that stalls or has a wrong checksum ends the wait early: nothing is
// sent twice, so the answer will not come any more.
func (s *session) exchange(q request) (f, odd Frame, n int, err error) {
	by := time.Now().Add(q.limit(s.baud))
	if err := errors.Join(s.conn.SetWriteDeadline(by), s.conn.SetReadDeadline(by)); err != nil {
		return nil, nil, 0, err
	}
	p := q.frame()
	if s.kind.Wrap != nil {
		p = s.kind.Wrap(p)
	}
	if _, err := s.conn.Write(p); err != nil {
		return nil, nil, 0, err
	}
	broken := s.framer.Counts().ChecksumErrors
	for {
		m, err := s.conn.Read(s.buf[:])
		n += m
		s.framer.Feed(s.buf[:m])
		clear(s.buf[:m])
		for {
			f, ok := s.framer.Next()
			if !ok {
				break
			}
			if q.answers(f) {
				return f, nil, 0, nil
			}
			odd = f
		}
		if err != nil {
			return nil, odd, n, err
		}
		until := by
		if s.framer.Counts().ChecksumErrors > broken {
			until = earlier(by, time.Now().Add(aftermath))
		}
		if s.framer.Pending() > 0 {
			until = earlier(by, time.Now().Add(stall))
		}
		if err := s.conn.SetReadDeadline(until); err != nil {
			return nil, odd, n, err
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// missed is the error of a request that ran out of time. A frame of a wrong
// shape is told as what it says, if nothing better came.
func missed(q request, odd Frame, none *unansweredError) error {
	switch {
	case odd != nil && len(odd.Data()) == 0 && odd.Status() != q.done:
		return statusError(q, odd)
	case odd != nil:
		return &PayloadError{q.name, fmt.Sprintf("answer %02X with %d bytes of data", odd.Status(), len(odd.Data()))}
	}
	return none
}
