package lan

import (
	"net/http"
	"sync"
	"time"

	"github.com/hallagent/hallagent/idcard"
)

// CardEvent is a card that was read, as the claimant of its window sees it.
type CardEvent struct {
	Reader   string           `json:"reader"`
	Window   string           `json:"window"`
	At       time.Time        `json:"at"`
	Card     *idcard.Card     `json:"card"`
	Warnings []idcard.Warning `json:"warnings"`
	Photo    bool             `json:"photo"` // a photo was read with it
}

// RemovedEvent says that the card was lifted.
type RemovedEvent struct {
	Reader string    `json:"reader"`
	Window string    `json:"window"`
	At     time.Time `json:"at"`
}

// ReaderEvent is the state of the window's reader, and the trouble it has with
// a card, if any, in a teller's words.
type ReaderEvent struct {
	Reader
	Trouble *idcard.Trouble `json:"trouble,omitempty"`
}

// windows hold the open streams by window, and who claimed which.
type windows struct {
	mu      sync.Mutex
	streams map[string]map[*client]string // window -> stream -> token id
	claims  map[string]*client            // window -> claiming stream

	claimed   uint64 // cards that went to a claimant
	unclaimed uint64 // cards that nobody had claimed, dropped
}

func newWindows() *windows {
	return &windows{streams: map[string]map[*client]string{}, claims: map[string]*client{}}
}

// join adds a stream; with claim it also takes the window, if it is free.
func (ws *windows) join(window, token string, claim bool) (*client, bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if claim && ws.claims[window] != nil {
		return nil, false
	}
	c := newClient()
	if ws.streams[window] == nil {
		ws.streams[window] = map[*client]string{}
	}
	ws.streams[window][c] = token
	if claim {
		ws.claims[window] = c
	}
	return c, true
}

func (ws *windows) leave(window string, c *client) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.streams[window], c)
	if ws.claims[window] == c {
		delete(ws.claims, window)
	}
}

// toClaimant sends an event to the stream that claimed the window and to the
// other streams of the same token, and says whether the claimant itself took it:
// the others only look on. Where the pairing no longer stands nobody gets
// anything, and the streams are closed.
func (ws *windows) toClaimant(window string, e []byte, stands func(token string) bool) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	claimant := ws.claims[window]
	if claimant == nil {
		return false
	}
	token, taken := ws.streams[window][claimant], false
	if !stands(token) {
		for c, t := range ws.streams[window] {
			if t == token {
				c.drop()
			}
		}
		return false
	}
	for c, t := range ws.streams[window] {
		if t == token {
			taken = c.send(e) && c == claimant || taken
		}
	}
	return taken
}

// toAll sends an event without anything personal to every stream of a window.
func (ws *windows) toAll(window string, e []byte) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for c := range ws.streams[window] {
		c.send(e)
	}
}

func (ws *windows) count(claimed bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if claimed {
		ws.claimed++
	} else {
		ws.unclaimed++
	}
}

// Cards gives the number of cards that went to a claimant, and of those that
// nobody had claimed and that were dropped.
func (s *Server) Cards() (claimed, unclaimed uint64) {
	s.windows.mu.Lock()
	defer s.windows.mu.Unlock()
	return s.windows.claimed, s.windows.unclaimed
}

// ShowCard hands what a reader found to its window. A card goes to the claimant
// only; without one it is counted and forgotten.
func (s *Server) ShowCard(e idcard.Event) {
	switch e.Type {
	case idcard.CardRead:
		warnings := e.Warnings
		if warnings == nil {
			warnings = []idcard.Warning{}
		}
		s.windows.count(s.windows.toClaimant(e.Window, event("card", CardEvent{
			Reader: e.Reader, Window: e.Window, At: e.At, Card: e.Card,
			Warnings: warnings, Photo: len(e.Photo) > 0,
		}), func(id string) bool { return s.opt.Pairings.stands(id, e.Window) }))
	case idcard.CardRemoved:
		s.windows.toAll(e.Window, event("removed", RemovedEvent{Reader: e.Reader, Window: e.Window, At: e.At}))
	case idcard.CardTroubled:
		if reader, ok := s.opt.Window(e.Window); ok {
			s.windows.toAll(e.Window, event("reader", ReaderEvent{Reader: reader, Trouble: e.Trouble}))
		}
	}
}

// ShowReader tells the streams of a window how its reader is.
func (s *Server) ShowReader(r Reader) {
	s.windows.toAll(r.Window, event("reader", ReaderEvent{Reader: r}))
}

func (s *Server) streamWindow(w http.ResponseWriter, r *http.Request) {
	window := r.PathValue("window")
	p, ok := s.admit(w, r)
	if !ok {
		return
	}
	if !p.covers(window) {
		refuse(w, http.StatusForbidden, "scope", "this workstation is paired for another window")
		return
	}
	reader, ok := s.opt.Window(window)
	if !ok {
		refuse(w, http.StatusNotFound, "window", "no reader is configured for this window")
		return
	}
	c, ok := s.windows.join(window, p.ID, r.URL.Query().Get("claim") == "1")
	if !ok {
		refuse(w, http.StatusConflict, "claimed", "another stream has claimed this window")
		return
	}
	defer s.windows.leave(window, c)
	if now, ok := s.opt.Window(window); ok {
		reader = now // it may have changed just before the stream was there to be told
	}
	c.send(event("reader", ReaderEvent{Reader: reader}))
	c.serve(w, r)
}
