package idcard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
)

// DefaultPoll is how often a reader is asked for a card.
const DefaultPoll = 200 * time.Millisecond

// slowest rate of a SAM, bits per second; assumed where the rate is not known.
const slowest = 9600

// Config names a reader.
type Config struct {
	ID     string
	Kind   string
	Window string
	Poll   time.Duration // DefaultPoll when zero
	Baud   int           // of the line, bits per second; zero where it is not known
	Auto   bool          // the rate is to be found on the line; Baud is the first guess
}

// Reader reads the cards laid on one reader. Use does the work, on one line at a
// time; Status and Reread may be called at any time.
type Reader struct {
	cfg     Config
	kind    Kind
	deliver func(context.Context, Event)
	log     *slog.Logger
	framer  Frames // used by Use only
	seed    maphash.Seed
	wanted  chan struct{} // holds a wish for the card there to be read again
	unread  bool          // the line was lost over a card; used by Use only

	mu     sync.Mutex
	status Status
}

// Status is a snapshot of a reader. State is that of the reader on an open
// line; why a line is not open is known to its link.
type Status struct {
	ID       string            `json:"id"`
	Kind     string            `json:"kind"`
	Window   string            `json:"window"`
	State    device.State      `json:"state"`
	Since    time.Time         `json:"since"`
	Code     string            `json:"code,omitempty"` // of device.Cause, or of a module that answers and is ill
	Err      string            `json:"err,omitempty"`
	Hint     string            `json:"hint,omitempty"`
	SAMID    string            `json:"sam_id,omitempty"`
	Baud     int               `json:"baud,omitempty"` // that was found, bits per second; zero where it was not looked for
	Card     bool              `json:"card"`           // a card lies on the reader
	Scans    uint64            `json:"scans"`          // cards read
	Troubles map[string]uint64 `json:"troubles"`       // by code
	Counts
}

// NewReader makes a reader that hands what happens to deliver, one event after
// the other and from within Use: while deliver runs, nothing is asked of the
// reader.
func NewReader(cfg Config, deliver func(context.Context, Event), log *slog.Logger) (*Reader, error) {
	kind, err := Kinds().Find(cfg.Kind)
	if err != nil {
		return nil, fmt.Errorf("make reader %q: %w", cfg.ID, err)
	}
	if cfg.Poll < 0 || cfg.Baud < 0 {
		return nil, fmt.Errorf("make reader %q: poll %v and baud %d must not be negative", cfg.ID, cfg.Poll, cfg.Baud)
	}
	if cfg.Poll == 0 {
		cfg.Poll = DefaultPoll
	}
	if cfg.Baud == 0 && cfg.Auto {
		cfg.Baud = rates[0]
	}
	if cfg.Baud == 0 {
		cfg.Baud = slowest
	}
	return &Reader{
		cfg: cfg, kind: kind, deliver: deliver, framer: kind.Framer(),
		seed: maphash.MakeSeed(), wanted: make(chan struct{}, 1),
		log: log.With("device", cfg.ID, "kind", cfg.Kind, "window", cfg.Window),
		status: Status{
			ID: cfg.ID, Kind: cfg.Kind, Window: cfg.Window,
			State: device.Waiting, Since: time.Now(), Troubles: map[string]uint64{},
		},
	}, nil
}

// Status is a snapshot, safe to take at any time.
func (r *Reader) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Troubles = maps.Clone(s.Troubles)
	return s
}

// Reread asks for the card that lies on the reader once more, within the poll.
// What comes of it is delivered as for a card laid down: the card, or a trouble,
// lift_card where it cannot be told to be unmoved and the module does not read it
// again. It is false while the reader does not answer.
func (r *Reader) Reread() bool {
	if r.Status().State != device.Online {
		return false
	}
	select {
	case r.wanted <- struct{}{}:
	default: // is wanted already
	}
	return true
}

// Use is a device.Use: it greets the module and then looks for cards until the
// line breaks, nothing is answered any more (an error that is device.ErrSilent)
// or ctx ends. Whoever opened c closes it when ctx ends.
func (r *Reader) Use(ctx context.Context, c device.Conn, heard func()) error {
	s := &session{Reader: r, ctx: ctx, conn: c, heard: heard, baud: cmp.Or(r.Status().Baud, r.cfg.Baud)}
	err := s.run()
	if ctx.Err() != nil {
		err = ctx.Err() // the closed line is only how it showed
	}
	s.end(err)
	return err
}

// change edits the status.
func (r *Reader) change(edit func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.status.State
	edit(&r.status)
	if r.status.State != was {
		r.status.Since = time.Now()
	}
}

// online notes a valid answer.
func (r *Reader) online() {
	r.change(func(s *Status) {
		if s.State != device.Online {
			s.State, s.Code, s.Err, s.Hint = device.Online, "", "", ""
		}
	})
}

// offline notes how the use of the line ended.
func (r *Reader) offline(err error) {
	r.change(func(s *Status) {
		switch {
		case errors.Is(err, device.ErrSilent):
			s.State = device.Wedged
		case s.State != device.Wedged:
			s.State = device.Waiting
		}
		s.Code, s.Hint = device.Cause(err)
		s.Err = err.Error()
		s.Card = false
	})
}

// health sets or, with a nil trouble, clears the code of a module that answers.
func (r *Reader) health(t *Trouble) {
	r.change(func(s *Status) {
		s.Code, s.Err, s.Hint = "", "", ""
		if t != nil {
			s.Code, s.Err, s.Hint = t.Code, t.Detail, t.EN
		}
	})
}
