package idcard

import (
	"errors"
	"time"

	"github.com/hallagent/hallagent/device"
)

const (
	contactTries = 12          // at a known rate: 3.6 s in all, and a module needs up to 2 s after power-up
	contactTurns = 2           // through all rates, where the rate is not known
	idTries      = 4           // times the SAM's id is asked for until two answers agree
	idMute       = 2           // of which stay unanswered by a module that does not tell it
	illPause     = time.Second // between questions to a module that is ill
)

// rates of a SAM (GA 467, command 60), the usual first, in bits per second.
var rates = [...]int{115200, 57600, 38400, 19200, 9600}

// greet waits until the module answers and is well, and asks for its id.
func (s *session) greet() error {
	for {
		err := s.contact()
		if err == nil {
			break
		}
		if !passing(err) {
			return err
		}
		s.tellIll(err)
		if err := s.wait(time.After(illPause)); err != nil {
			return err
		}
	}
	return s.identify()
}

// contact asks for the module's status until it answers. An answer that says the
// module is ill is a *StatusError: the rate is right all the same.
func (s *session) contact() error {
	var last, refused error
	for _, baud := range s.guesses() {
		if err := s.setRate(baud); err != nil {
			refused = err // one rate may be more than an adapter can do
			continue
		}
		_, err := s.try(askStatus)
		var status *StatusError
		if err == nil || errors.As(err, &status) && ofModule(status.SW3) { // else it is late, and another's
			s.astray = false
			s.settleRate()
			return err
		}
		if !passing(err) {
			return err
		}
		last = err
	}
	if last == nil {
		return refused
	}
	return silent(last)
}

// guesses are the rates to try, one after the other. Where the rate is to be
// found, every second guess is the likeliest one: a module that has just got its
// power answers at no rate for a while.
func (s *session) guesses() (tries []int) {
	if !s.cfg.Auto {
		for range contactTries {
			tries = append(tries, s.baud)
		}
		return tries
	}
	for range contactTurns {
		for _, r := range rates {
			if r != s.baud {
				tries = append(tries, s.baud, r)
			}
		}
	}
	return tries
}

func (s *session) setRate(baud int) error {
	s.baud = baud
	if !s.cfg.Auto {
		return nil
	}
	err := device.SetRate(s.conn, baud)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil // a line without a rate of its own is right at any
	}
	return err
}

// settleRate remembers the rate that was found, for the next time the line is
// opened.
func (s *session) settleRate() {
	if s.cfg.Auto && s.Status().Baud != s.baud {
		s.log.Info("reader's rate found", "baud", s.baud)
		s.change(func(st *Status) { st.Baud = s.baud })
	}
}

// identify asks for the SAM's id until two answers agree: some modules give a
// wrong one right after power-up.
func (s *session) identify() error {
	last, mute := "", 0
	for range idTries {
		f, err := s.try(askSAMID)
		if unlessPassing(err) != nil {
			return err
		}
		if unanswered(err) {
			mute++
		}
		if mute == idMute {
			break
		}
		if err != nil {
			continue
		}
		id := samID(f.Data())
		if id == last {
			if id != s.Status().SAMID {
				s.change(func(st *Status) { st.SAMID = id })
				s.log.Info("reader is ready", "sam_id", id)
			}
			return nil
		}
		last = id
	}
	s.log.Warn("reader gives no id twice alike", "hint", "its module may be failing: note what it reads, and have it replaced")
	s.change(func(st *Status) { st.SAMID = "" })
	return nil
}
