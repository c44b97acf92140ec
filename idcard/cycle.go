package idcard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hallagent/hallagent/device"
)

const (
	silence   = 3           // unanswered requests in a row that make a line silent
	samTries  = 3           // times the SAM's id is asked for until two answers agree
	illPause  = time.Second // between questions to a module that is ill
	quietAway = 2           // finds without a card after which an old trouble is news again
)

// session is one use of an open line.
type session struct {
	*Reader
	ctx   context.Context
	conn  device.Conn
	heard func()
	buf   [4096]byte

	unanswered int    // requests in a row
	present    bool   // a card lies there and was dealt with
	moved      error  // why the card there was not read at the first try
	told       string // code of the trouble last delivered
	away       int    // finds in a row that found no card
}

// unansweredError is a request without a valid answer in time.
type unansweredError struct {
	request string
	rubbish int // bytes that came instead
}

func (e *unansweredError) Error() string {
	if e.rubbish > 0 {
		return fmt.Sprintf("%s: no valid answer, %d bytes of rubbish (wrong baud rate or a disturbed line)", e.request, e.rubbish)
	}
	return e.request + ": no answer"
}

// passing says of an error that the line can still be used.
func passing(err error) bool {
	var status *StatusError
	var payload *PayloadError
	var unanswered *unansweredError
	if errors.Is(err, device.ErrSilent) {
		return false
	}
	return errors.As(err, &status) || errors.As(err, &payload) || errors.As(err, &unanswered)
}

func hasStatus(err error, sw3 ...byte) bool {
	var status *StatusError
	return errors.As(err, &status) && bytes.IndexByte(sw3, status.SW3) >= 0
}

func (s *session) run() error {
	if err := s.greet(); err != nil {
		return err
	}
	poll := time.NewTicker(s.cfg.Poll)
	defer poll.Stop()
	for {
		again, err := s.turn()
		if err != nil {
			return err
		}
		if again {
			continue
		}
		if err := s.wait(poll.C); err != nil {
			return err
		}
	}
}

func (s *session) wait(c <-chan time.Time) error {
	select {
	case <-s.ctx.Done():
		return s.ctx.Err()
	case <-c:
		return nil
	}
}

// end leaves nothing of a person behind.
func (s *session) end(err error) {
	s.framer.Reset()
	clear(s.buf[:])
	if s.present && s.ctx.Err() == nil {
		s.emit(Event{Type: CardRemoved})
	}
	s.offline(err)
}

// greet waits until the module is well and asks for its id. A module needs up
// to 2 s after power-up, and its first answers may hold a wrong id.
func (s *session) greet() error {
	for {
		_, err := s.ask(askStatus)
		if err == nil {
			break
		}
		if !passing(err) {
			return err
		}
		var status *StatusError
		if !errors.As(err, &status) {
			continue // ask counts what stays unanswered
		}
		s.tell(err)
		if err := s.wait(time.After(illPause)); err != nil {
			return err
		}
	}
	last := ""
	for range samTries + 1 {
		f, err := s.ask(askSAMID)
		if err != nil && !passing(err) {
			return err
		}
		if err != nil {
			continue
		}
		id := samID(f.Data())
		if id == last {
			break
		}
		last = id
	}
	if last != "" && last != s.Status().SAMID {
		s.change(func(st *Status) { st.SAMID = last })
		s.log.Info("reader is ready", "sam_id", last)
	}
	return nil
}

// turn asks once whether a card has come or gone. again says that the next turn
// must not wait for the poll.
func (s *session) turn() (again bool, err error) {
	if s.present {
		return s.watch()
	}
	return s.look()
}

// watch asks whether the card that was read still lies there. Find would say no
// card either way, so the module is asked for something on the card.
func (s *session) watch() (again bool, err error) {
	_, err = s.ask(presence)
	if err == nil || hasStatus(err, noContent) {
		return false, nil
	}
	var status *StatusError
	if !errors.As(err, &status) {
		return false, s.unlessPassing(err)
	}
	s.setPresent(false)
	s.emit(Event{Type: CardRemoved})
	s.told = ""
	return true, nil
}

func (s *session) unlessPassing(err error) error {
	if passing(err) {
		return nil
	}
	return err
}

// look looks for a card and reads it.
func (s *session) look() (again bool, err error) {
	_, err = s.ask(find)
	if hasStatus(err, noCard) {
		s.nobody()
		return false, nil
	}
	if err != nil {
		var status *StatusError
		if errors.As(err, &status) {
			s.tell(err)
		}
		return false, s.unlessPassing(err)
	}
	s.away = 0
	s.health(nil)
	if _, err = s.ask(choose); err != nil {
		return s.stumble(err)
	}
	f, err := s.ask(readCard)
	if err != nil {
		return s.stumble(err)
	}
	s.read(f)
	return false, nil
}

// nobody deals with a find that found no card.
func (s *session) nobody() {
	s.health(nil)
	if s.moved != nil { // it was lifted before it was read
		s.tell(s.moved)
		s.moved = nil
	}
	if s.away++; s.away == quietAway {
		s.told = ""
	}
}

// stumble deals with a card that was found and not read. A card on the move is
// tried again at once, and only told of when that does not help.
func (s *session) stumble(err error) (again bool, _ error) {
	if !passing(err) {
		return false, err
	}
	if s.moved == nil && hasStatus(err, samRefused, readFailed, unselected) {
		s.moved = err
		return true, nil
	}
	s.moved = nil
	s.tell(err)
	return false, nil
}

// read deals with the answer to a read: f holds the card.
func (s *session) read(f Frame) {
	defer clear(f)
	s.moved = nil
	text, photo, err := splitCard(f.Data())
	if err != nil {
		s.tell(err)
		return
	}
	card, warnings, err := ParseText(text)
	if err != nil {
		s.setPresent(true) // read well, and not to be read again until lifted
		s.tell(err)
		return
	}
	s.told = ""
	s.change(func(st *Status) {
		st.Card = true
		st.Scans++
	})
	s.present = true
	s.emit(Event{Type: CardRead, Card: &card, Photo: bytes.Clone(photo), Warnings: warnings})
}

func (s *session) setPresent(p bool) {
	s.present = p
	s.change(func(st *Status) { st.Card = p })
}

// tell delivers a trouble, unless it is the one delivered last.
func (s *session) tell(err error) {
	t := troubleOf(err)
	if hasStatus(err, 0x60, 0x66) {
		s.health(&t)
	}
	if t.Code == s.told {
		return
	}
	s.told = t.Code
	s.change(func(st *Status) { st.Troubles[t.Code]++ })
	s.log.Warn("card was not read", "code", t.Code, "err", t.Detail)
	s.emit(Event{Type: CardTroubled, Trouble: &t})
}

func (s *session) emit(e Event) {
	e.Reader, e.Window, e.At = s.cfg.ID, s.cfg.Window, time.Now().UTC()
	s.deliver(s.ctx, e)
}

// ask sends a request and waits for its answer. What came before is dropped,
// and what comes in another shape is passed over, so that the late answer to an
// older request is never taken for this one's.
//
// A refusal is a *StatusError, an answer that can be none a *PayloadError, no
// answer an *unansweredError, the third of those in a row device.ErrSilent. Any
// other error is the line's.
func (s *session) ask(q request) (Frame, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	s.framer.Reset()
	if err := device.Drain(s.conn); err != nil {
		return nil, fmt.Errorf("%s: %w", q.name, err)
	}
	f, odd, rubbish, err := s.exchange(q)
	counts := s.framer.Counts()
	s.change(func(st *Status) { st.Counts = counts })
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, s.missed(q, odd, rubbish)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", q.name, err)
	}
	s.unanswered = 0
	s.online()
	s.heard()
	if f.Status() != q.done {
		return nil, statusError(q, f)
	}
	return f, nil
}

// exchange sends q and reads until its answer or the time limit. odd is the
// last valid frame that was none.
func (s *session) exchange(q request) (f, odd Frame, rubbish int, err error) {
	by := time.Now().Add(q.limit(s.cfg.Baud))
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
	for {
		n, err := s.conn.Read(s.buf[:])
		rubbish += n
		s.framer.Feed(s.buf[:n])
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
			return nil, odd, rubbish, err
		}
	}
}

// missed is the error of a request that ran out of time. A frame of a wrong
// shape is told as what it says, if nothing better came.
func (s *session) missed(q request, odd Frame, rubbish int) error {
	var err error = &unansweredError{q.name, rubbish}
	switch {
	case odd != nil && len(odd.Data()) == 0 && odd.Status() != q.done:
		err = statusError(q, odd)
	case odd != nil:
		err = &PayloadError{q.name, fmt.Sprintf("answer %02X with %d bytes of data", odd.Status(), len(odd.Data()))}
	}
	if s.unanswered++; s.unanswered >= silence {
		silent := device.ErrSilent
		if rubbish > 0 {
			silent = device.ErrGarbled
		}
		return fmt.Errorf("%d requests in a row: %w: %w", s.unanswered, err, silent)
	}
	return err
}
