package idcard

import (
	"context"
	"errors"
	"hash/maphash"
	"time"

	"github.com/hallagent/hallagent/device"
)

const (
	quietAway  = 2                // finds in a row without a card after which a trouble that was told is news again
	oddFinds   = 2                // finds in a row that were refused, after which the teller is told
	mutedFinds = 3                // finds in a row that failed, after which the module is called ill
	keepFor    = 10 * time.Minute // a card is kept to be handed on again, if it lies there for so long
)

// errLift says that a card that was to be read again must be lifted first.
var errLift = errors.New("the module does not read this card again before it was lifted")

// session is one use of an open line.
type session struct {
	*Reader
	ctx   context.Context
	conn  device.Conn
	heard func()
	buf   [4096]byte

	baud   int  // of the line, for time limits
	astray bool // an answer may still come that nobody waits for

	card   lying // what was read and not lifted
	gentle bool  // the module answers one presence test after the other
	coarse bool  // the module left presence tests unanswered

	away  int             // finds in a row that found no card since there was trouble
	faint int             // finds in a row without an answer that says anything
	taken bool            // a card was found and is being read
	moved error           // why the card there was not read at the first try
	told  map[string]bool // codes of the troubles delivered since no card was there
	again bool            // somebody wants the card there to be read again
}

func (s *session) run() error {
	select {
	case <-s.wanted: // from before the line was open
	default:
	}
	if err := s.greet(); err != nil {
		return err
	}
	s.again, s.unread = s.again || s.unread, false
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
	case <-s.wanted:
		s.again = true
	case <-c:
	}
	return nil
}

// end leaves nothing of a person behind. A card that was being read when the line
// was lost may lie there as one that was read, and be denied from now on.
func (s *session) end(err error) {
	s.framer.Reset()
	if s.card.present && s.ctx.Err() == nil {
		s.emit(Event{Type: CardRemoved})
	}
	s.card.forget()
	s.unread = s.unread || s.taken && s.ctx.Err() == nil
	s.offline(err)
}

// turn asks once whether a card has come or gone. again says that the next turn
// must not wait for the poll.
func (s *session) turn() (again bool, err error) {
	if time.Since(s.card.since) > keepFor {
		s.card.forget()
	}
	switch {
	case s.again:
		s.again = false
		return false, s.reread()
	case !s.card.present:
		return s.look()
	case s.card.byFind:
		return s.watchByFind()
	}
	return s.watch()
}

// look looks for a card and reads it.
func (s *session) look() (again bool, err error) {
	_, err = s.ask(find)
	if hasStatus(err, noCard) {
		s.nobody()
		return false, nil
	}
	if err != nil {
		return false, s.fail(err)
	}
	return s.take()
}

// fail deals with a find that says neither yes nor no. One that was disturbed is
// made good by the next; what goes on is told.
func (s *session) fail(err error) error {
	if !passing(err) {
		return err
	}
	s.faint++
	switch {
	case hasStatus(err, selfTestFailed, notAuthorised), s.faint >= mutedFinds:
		s.tellIll(err)
	case s.faint >= oddFinds && !unanswered(err):
		s.tell(err)
	}
	return nil
}

// tellIll tells of a trouble that is the module's own, not of a card.
func (s *session) tellIll(err error) {
	t := troubleOf(err)
	s.health(&t)
	s.tell(err)
}

// take selects and reads the card that was found.
func (s *session) take() (again bool, err error) {
	s.taken, s.away, s.faint = true, 0, 0
	defer func() { s.taken = err != nil }()
	s.health(nil)
	if _, err := s.ask(choose); err != nil {
		return s.stumble(err)
	}
	f, err := s.ask(readCard)
	if unanswered(err) {
		f, err = s.readAgain(err)
	}
	if err != nil {
		return s.stumble(err)
	}
	return s.read(f, false)
}

// readAgain repeats a read whose answer was lost on the line. Find would deny
// the card now until it is lifted; many modules read it all the same.
func (s *session) readAgain(lost error) (Frame, error) {
	if _, err := s.ask(choose); unlessPassing(err) != nil {
		return nil, err
	}
	f, err := s.ask(readCard)
	if err != nil && passing(err) {
		err = lost
	}
	return f, err
}

// reread hands the card that lies there on once more. One that the module says
// has not moved since it was read is the same; otherwise it is read again, which
// not every module does.
func (s *session) reread() error {
	s.told = nil
	for n := 0; n < goneProofs && s.card.kept != nil && !s.card.byFind; n++ {
		_, err := s.ask(presence)
		if err == nil || hasStatus(err, noContent) {
			s.card.asked = false // so that the new addresses follow again
			s.emit(s.card.kept.copy())
			return nil
		}
		if !passing(err) {
			return err
		}
	}
	_, none := s.ask(find)
	if none != nil && !hasStatus(none, noCard) {
		return s.tellPassing(none)
	}
	if _, err := s.ask(choose); unlessPassing(err) != nil {
		return err
	}
	f, err := s.ask(readCard)
	if hasStatus(err, readFailed) && none != nil && !s.card.present {
		return s.tellPassing(none) // nothing speaks for a card
	}
	if err != nil {
		return s.tellPassing(errors.Join(errLift, err))
	}
	_, err = s.read(f, true)
	return err
}

// tellPassing tells of an error that does not end the use of the line.
func (s *session) tellPassing(err error) error {
	if passing(err) {
		s.tell(err)
		return nil
	}
	return err
}

// nobody deals with a find that found no card.
func (s *session) nobody() {
	s.health(nil)
	s.faint = 0
	if s.moved != nil { // it was lifted before it was read
		s.tell(s.moved)
		s.moved = nil
	}
	if s.away++; s.away == quietAway {
		s.told = nil
	}
}

// stumble deals with a card that was found and not read. A card on the move, or
// an answer that was lost, is tried again at once and only told of when that does
// not help.
func (s *session) stumble(err error) (again bool, _ error) {
	if !passing(err) {
		return false, err
	}
	if s.moved == nil && (hasStatus(err, samRefused, readFailed, unselected) || unanswered(err)) {
		s.moved = err
		return true, nil
	}
	s.moved = nil
	s.tell(err)
	return false, nil
}

// read deals with the answer to a read: f holds the card. One that lies there
// and is known is news only when somebody asked for it.
func (s *session) read(f Frame, asked bool) (again bool, _ error) {
	defer clear(f)
	s.moved = nil
	text, photo, err := splitCard(f.Data())
	if err != nil {
		s.tell(err)
		return false, nil
	}
	card, warnings, err := ParseText(text)
	if err != nil {
		s.tell(err)
		return false, nil
	}
	digest := maphash.Bytes(s.seed, text)
	if s.card.present && digest == s.card.digest && !asked {
		s.card.shown, s.card.denied, s.card.checked = true, 0, time.Now()
		return false, nil
	}
	if s.card.present && digest != s.card.digest {
		s.removed()
	}
	s.told = nil
	s.change(func(st *Status) {
		st.Card = true
		st.Scans++
	})
	s.card.forget()
	kept := Event{Type: CardRead, Card: &card, Photo: photo, Warnings: warnings}.copy()
	s.card = lying{present: true, digest: digest, kept: &kept, since: time.Now()}
	s.emit(kept.copy())
	return true, nil
}

// removed notes that the card was lifted.
func (s *session) removed() {
	s.card.forget()
	s.card, s.told = lying{}, nil
	s.change(func(st *Status) { st.Card = false })
	s.emit(Event{Type: CardRemoved})
}

// tell delivers a trouble, unless the card there was told of with it before.
func (s *session) tell(err error) {
	t := troubleOf(err)
	s.away = 0
	if s.told[t.Code] {
		return
	}
	if s.told == nil {
		s.told = map[string]bool{}
	}
	s.told[t.Code] = true
	s.change(func(st *Status) { st.Troubles[t.Code]++ })
	s.log.Warn("card was not read", "code", t.Code, "err", t.Detail)
	s.emit(Event{Type: CardTroubled, Trouble: &t})
}

func (s *session) emit(e Event) {
	e.Reader, e.Window, e.At = s.cfg.ID, s.cfg.Window, time.Now().UTC()
	s.deliver(s.ctx, e)
}
