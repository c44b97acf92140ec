package sim

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"time"
)

// Mood is what is the matter with a reader and its line. The zero value is a
// reader that is well. What happens a number of times is over after that; the
// rest lasts until another mood is set.
type Mood struct {
	// The module.
	StartUp      time.Duration // after PowerOn it is deaf and dumb for so long; real ones 1.5 to 2 s
	Banner       string        // text it sends when it has started
	WrongIDs     int           // wrong SAM ids it gives after PowerOn
	Wedged       bool          // hears and does not answer, until PowerOn or until Serve has ended, as when a host hangs up
	Force        []Force       // statuses instead of answers; the first that fits counts
	FindsAgain   bool          // find finds an unmoved card that was read, to be read again
	Rereads      bool          // select and read serve an unmoved card that was read, though find denies it
	PresenceOnce bool          // 30 03 has no more answer after "no new address", until another card is laid

	// The time it takes.
	Delay time.Duration // before the first byte of each answer
	Late  time.Duration // the same for the next answer alone: a host that gave up sees it in front of the one after
	Pace  int           // baud; bytes come no faster than that on a line of any rate

	// What becomes of the bytes.
	Swallow int     // so many answers are worked out and not sent
	Cut     Cut     // answers that end too soon
	Pieces  Pieces  // answers in several pieces
	Disturb int     // so many answers to 30 01 have one wrong byte
	Flip    float64 // chance of each byte of an answer that one of its bits is wrong
	Rubbish float64 // chance that 1 to 8 meaningless bytes stand before an answer, and behind it
	Seed    uint64  // of all chance; the same seed gives the same bytes
	Echo    bool    // the host hears what it says, as behind a half-duplex adapter
}

// Force gives a status instead of the answer, and the card stays as it is.
type Force struct {
	Command [2]byte // CMD and Para; zero: every command
	Status  [3]byte // SW1, SW2, SW3; zero: no answer at all
	Times   int     // 0: always
}

// Cut ends answers after so many bytes; 0: never.
type Cut struct {
	After int
	Times int // 0: always
}

// Pieces sends answers in pieces of so many bytes with a pause between; 0: in one.
type Pieces struct {
	Size  int
	Pause time.Duration
}

// SetMood puts the reader into another mood, at once and for all its lines.
func (r *Reader) SetMood(m Mood) { r.ChangeMood(func(now *Mood) { *now = m }) }

// ChangeMood lets f change the mood of the reader. What chance does begins anew.
func (r *Reader) ChangeMood(f func(*Mood)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mood.Force = slices.Clone(r.mood.Force)
	f(&r.mood)
	r.mood.Force = slices.Clone(r.mood.Force) // ours to count down
	r.chance = rand.New(rand.NewPCG(r.mood.Seed, 0))
}

// PowerOn switches the reader off and on, as a cable that feeds it does when it
// is put in. The rate stays set; a card that lies there can be found again.
func (r *Reader) PowerOn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.card != nil {
		r.state = laid
	}
	r.mood.Wedged = false
	r.up = time.Now().Add(r.mood.StartUp)
	r.wrongIDs = r.mood.WrongIDs
	select {
	case r.power <- struct{}{}:
	default: // the one before has not been noticed yet
	}
}

// forced is the answer that the mood gives instead of the module. Called with
// r.mu held.
func (r *Reader) forced(req request) (frame []byte, ok bool) {
	for i := range r.mood.Force {
		f := &r.mood.Force[i]
		if f.Command != [2]byte{} && f.Command != [2]byte{req.cmd, req.para} {
			continue
		}
		status := f.Status
		if f.Times == 1 {
			r.mood.Force = slices.Delete(r.mood.Force, i, i+1)
		} else if f.Times > 1 {
			f.Times--
		}
		if status == ([3]byte{}) {
			return nil, true
		}
		return respond(status), true
	}
	return nil, false
}

// sound is an answer as it goes out.
type sound struct {
	bytes  []byte
	delay  time.Duration
	pieces Pieces
	pace   int
}

// utter makes of an answer what the mood makes of it.
func (r *Reader) utter(req request, frame []byte) sound {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &r.mood
	s := sound{bytes: bytes.Clone(frame), delay: m.Delay + m.Late, pieces: m.Pieces, pace: m.Pace}
	m.Late = 0
	if m.Disturb > 0 && req.is(0x30, 0x01) {
		m.Disturb--
		s.bytes[r.chance.IntN(len(s.bytes))] ^= byte(1 + r.chance.IntN(255))
	}
	for i := range s.bytes {
		if r.chance.Float64() < m.Flip {
			s.bytes[i] ^= 1 << r.chance.IntN(8)
		}
	}
	if m.Cut.After > 0 && m.Cut.After < len(s.bytes) {
		s.bytes = s.bytes[:m.Cut.After]
		if m.Cut.Times == 1 {
			m.Cut = Cut{}
		} else if m.Cut.Times > 1 {
			m.Cut.Times--
		}
	}
	s.bytes = slices.Concat(r.rubbish(), s.bytes, r.rubbish())
	if m.Swallow > 0 {
		m.Swallow--
		s.bytes = nil
	}
	return s
}

// rubbish is what a noisy line adds between frames. Called with r.mu held.
func (r *Reader) rubbish() []byte {
	if r.chance.Float64() >= r.mood.Rubbish {
		return nil
	}
	b := make([]byte, 1+r.chance.IntN(8))
	for i := range b {
		b[i] = byte(r.chance.Uint32())
	}
	return b
}
