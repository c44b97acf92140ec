package idcard

import (
	"errors"
	"slices"
)

// watch asks whether the card that was read still lies there. Find would say no
// card either way, so the module is asked for something on the card: the
// addresses that were added to it. That is where they come from, too.
func (s *session) watch() (again bool, err error) {
	f, err := s.ask(presence)
	var status *StatusError
	switch {
	case err == nil:
		s.mute, s.doubts = 0, 0
		s.addresses(f)
		return false, nil
	case hasStatus(err, noContent):
		s.mute, s.doubts, s.news = 0, 0, false
		return false, nil
	case hasStatus(err, badSum, badSize):
		return false, nil // about the line, not about the card
	case hasStatus(err, badCommand, forbidden):
		s.watchOtherwise(err)
		return true, nil
	case errors.As(err, &status):
		// A card at the edge of the field is lost for a moment; asked again at
		// once it answers, one that was lifted or swapped does not.
		s.mute = 0
		if s.doubts++; s.doubts == goneProofs {
			s.removed()
		}
		return true, nil
	case garbled(err):
		return true, nil
	case unanswered(err):
		if s.mute++; s.mute == muteLimit { // though it answered something else in between
			s.watchOtherwise(err)
		}
		return true, nil
	}
	return false, unlessPassing(err)
}

// addresses hands on what was added to the card, once.
func (s *session) addresses(f Frame) {
	defer clear(f)
	if !s.news {
		return
	}
	s.news = false
	added, err := ParseAddresses(f.Data())
	if err == nil && len(added) > 0 {
		s.emit(Event{Type: CardAddresses, Addresses: slices.Clip(added)})
	}
}

// watchOtherwise gives the presence test up for as long as the line is open.
func (s *session) watchOtherwise(err error) {
	s.byFind, s.away = true, 0
	s.log.Info("reader does not tell whether a card still lies there", "err", err,
		"hint", "that a card was lifted shows when the next one is laid down")
}

// watchByFind is watch for modules that do not answer a presence test. Most deny
// a card that was read until it is lifted, so there the next card that is found
// ends the one before. Some show it as long as it lies there: that is seen at the
// first find, by reading it once more, and then it is gone when find says so.
func (s *session) watchByFind() (again bool, err error) {
	_, err = s.ask(find)
	switch {
	case hasStatus(err, noCard):
		if s.nobody(); s.shown && s.away >= goneAfter {
			s.removed()
		}
		return false, nil
	case err != nil:
		if hasStatus(err, selfTestFailed, notAuthorised) {
			s.tell(err)
		}
		return false, unlessPassing(err)
	case s.shown && s.away == 0:
		return false, nil
	case s.away > 0 && !s.shown:
		s.removed() // laid down anew, be it the same one
	}
	return s.take()
}
