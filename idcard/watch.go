package idcard

import (
	"errors"
	"time"
)

const (
	goneProofs = 2           // presence tests in a row that must say so before a card is gone
	goneAfter  = 2           // finds in a row without a card after which one that find shows is gone
	recheck    = time.Second // between two readings of a card that find goes on showing
)

// lying is a card that was read and has not been lifted.
type lying struct {
	present bool
	digest  uint64 // of its text
	kept    *Event // to be handed on again
	since   time.Time
	asked   bool // for the addresses that were added to it

	answers int // presence tests in a row that said it is there
	doubts  int // presence tests in a row that said it is gone
	mute    int // presence tests in a row that stayed unanswered

	byFind  bool      // watched by find, for want of a presence test
	denied  int       // finds in a row that did not show it
	shown   bool      // find shows it though it was read
	checked time.Time // it was last read to see that it is still the same
}

// forget leaves nothing of the person behind.
func (l *lying) forget() {
	if l.kept != nil {
		clear(l.kept.Photo)
		*l.kept.Card = Card{}
		l.kept = nil
	}
}

// watch asks whether the card that was read still lies there. Find would say no
// card either way, so the module is asked for something on the card: the
// addresses that were added to it. That is where they come from, too.
func (s *session) watch() (again bool, err error) {
	f, err := s.ask(presence)
	var status *StatusError
	switch {
	case err == nil:
		s.there()
		s.addresses(f)
		return false, nil
	case hasStatus(err, noContent):
		s.there()
		s.card.asked = true
		return false, nil
	case hasStatus(err, badSum, badSize):
		return false, nil // about the line, not about the card
	case hasStatus(err, badCommand, forbidden):
		s.watchOtherwise(err)
		return true, nil
	case errors.As(err, &status):
		// A card at the edge of the field is lost for a moment; asked again at
		// once it answers, one that was lifted or swapped does not.
		s.card.mute = 0
		if s.card.doubts++; s.card.doubts == goneProofs {
			s.removed()
		}
		return true, nil
	case !passing(err):
		return false, err
	case !garbled(err):
		s.unheard(err)
	}
	return true, nil
}

// there notes that the card lies there. Some modules answer no more than the
// first test of a card; one that answers the next as well answers them all.
func (s *session) there() {
	s.card.mute, s.card.doubts = 0, 0
	if s.card.answers++; s.card.answers == 2 {
		s.gentle = true
	}
}

// unheard notes a presence test without an answer, though the module answered
// something else after it. After so many in a row the test is given up: soon
// where it never worked, late where it did and the line is to blame.
func (s *session) unheard(err error) {
	s.card.answers = 0
	s.card.mute++
	most := 2
	switch {
	case s.gentle:
		most = 5
	case s.coarse:
		most = 1
	}
	if s.card.mute >= most {
		s.watchOtherwise(err)
	}
}

// addresses hands on what was added to the card, once.
func (s *session) addresses(f Frame) {
	defer clear(f)
	if s.card.asked {
		return
	}
	s.card.asked = true
	added, warnings, err := ParseAddresses(f.Data())
	if err == nil && len(added) > 0 {
		s.emit(Event{Type: CardAddresses, Addresses: added, Warnings: warnings})
	}
}

// watchOtherwise gives the presence test up for the card that lies there.
func (s *session) watchOtherwise(err error) {
	if !s.coarse {
		s.log.Info("reader does not tell whether a card still lies there", "err", err,
			"hint", "that a card was lifted shows when the next one is laid down")
	}
	s.coarse, s.card.byFind = true, true
}

// watchByFind is watch for modules that do not answer a presence test. Most deny
// a card that was read until it is lifted, so there the next card that is found
// ends the one before. Some show it as long as it lies there: that is seen by
// reading it once more, now and then again so that another in its place is
// noticed, and it is gone when find no longer shows it.
func (s *session) watchByFind() (again bool, err error) {
	_, err = s.ask(find)
	switch {
	case hasStatus(err, noCard):
		s.nobody()
		if s.card.denied++; s.card.shown && s.card.denied >= goneAfter {
			s.removed()
		}
		return false, nil
	case err != nil:
		return false, s.fail(err)
	case s.card.shown && s.card.denied == 0 && time.Since(s.card.checked) < recheck:
		return false, nil
	case s.card.denied > 0 && !s.card.shown:
		s.removed() // laid down anew, be it the same one
	}
	return s.take()
}
