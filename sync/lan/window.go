package lan

import (
	"net/http"
	"slices"
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

// AddressesEvent gives the addresses that the chip of the card holds besides the
// printed one, to whom got the card.
type AddressesEvent struct {
	Reader    string    `json:"reader"`
	Window    string    `json:"window"`
	At        time.Time `json:"at"`
	Addresses []string  `json:"new_addresses"`

	Warnings []idcard.Warning `json:"warnings"`
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

// windows are the places where cards are read, by name.
type windows struct {
	mu  sync.Mutex
	all map[string]*window

	claimed   uint64 // cards that went to a claimant
	unclaimed uint64 // cards that nobody had claimed, dropped
}

// window is who looks at one window and what lies there. At most one stream and
// one request claim it, both of the same pairing.
type window struct {
	streams  map[*client]string // pairing by stream
	claimant *client            // stream that gets the cards
	reading  *reading           // request that gets the next card
	lying    bool               // a card lies there that nobody got
	got      string             // pairing that got the card there

	trouble   *idcard.Trouble // the last with a card, until the next card
	troubleAt time.Time
	held      *held // the card there, for who got it
}

// freshTrouble is how long a trouble with a card is told to streams that open
// after it.
const freshTrouble = 30 * time.Second

func newWindows() *windows { return &windows{all: map[string]*window{}} }

// at gives a window; its methods are called with mu held.
func (ws *windows) at(name string) *window {
	w := ws.all[name]
	if w == nil {
		w = &window{streams: map[*client]string{}}
		ws.all[name] = w
	}
	return w
}

// owner is the pairing that gets the next card, "" when nobody claims it.
func (w *window) owner() string {
	if w.claimant != nil {
		return w.streams[w.claimant]
	}
	if w.reading != nil {
		return w.reading.token
	}
	return ""
}

// join adds a stream; with claim it also takes the window, if it is free.
func (ws *windows) join(name, token string, claim bool) (*client, bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.at(name)
	if claim && (w.claimant != nil || w.reading != nil && w.reading.token != token) {
		return nil, false
	}
	c := newClient()
	w.streams[c] = token
	if claim {
		w.claimant = c
	}
	return c, true
}

// leave removes a stream. The card that a claimant got is gone with it: nobody
// may find it on a screen that somebody else sits down at.
func (ws *windows) leave(name string, c *client) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.at(name)
	if w.claimant == c {
		w.claimant = nil
		if w.held != nil && w.held.token == w.streams[c] {
			w.release()
		}
	}
	delete(w.streams, c)
}

// give hands a card to who claimed the window: the claiming stream, the waiting
// request, and the other streams of their pairing, which only look on. Where the
// pairing no longer stands nobody gets anything and its streams are closed. A
// card that was taken is held for its pairing; the photo belongs to the window
// from here on.
func (ws *windows) give(card CardEvent, photo []byte, stands func(token string) bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.at(card.Window)
	owner, taken := w.owner(), false
	if w.got != "" && w.got != owner {
		// Read again for a pairing that no longer waits: a card that was lifted
		// would have been told of first.
		ws.unclaimed++
		clear(photo)
		return
	}
	w.release()
	w.trouble = nil
	switch {
	case owner == "":
	case !stands(owner):
		w.revoke(owner)
	default:
		taken = w.sendTo(owner, event("card", card))
		if w.reading != nil {
			w.reading.got <- HeldCard{CardEvent: card, Addresses: []string{}}
			w.reading, taken = nil, true
		}
	}
	w.lying = !taken && w.got == ""
	if !taken {
		ws.unclaimed++
		clear(photo)
		return
	}
	ws.claimed++
	w.got = owner
	w.held = &held{token: owner, card: HeldCard{CardEvent: card, Addresses: []string{}}, photo: photo, until: time.Now().Add(holdFor)}
}

// revoke ends what a pairing has at the window.
func (w *window) revoke(token string) {
	for c, t := range w.streams {
		if t == token {
			c.drop()
		}
	}
	if w.reading != nil && w.reading.token == token {
		close(w.reading.got)
		w.reading = nil
	}
	if w.held != nil && w.held.token == token {
		w.release()
	}
}

// remove forgets the card that was lifted and tells every stream of the window.
func (ws *windows) remove(e RemovedEvent) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.at(e.Window)
	w.lying, w.got = false, ""
	w.release()
	w.sendAll(event("removed", e))
}

// add keeps the addresses of the chip with the card and sends them to the
// streams of the pairing that got it.
func (ws *windows) add(e AddressesEvent) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.at(e.Window)
	if w.held == nil {
		return
	}
	w.held.card.Addresses = e.Addresses
	w.held.card.Warnings = append(slices.Clip(w.held.card.Warnings), e.Warnings...)
	w.sendTo(w.held.token, event("addresses", e))
}

// toAll sends how the reader is to every stream of the window. Trouble with a
// card is also kept for the request that waits for one.
func (ws *windows) toAll(e ReaderEvent) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.at(e.Window)
	if e.Trouble != nil {
		w.trouble, w.troubleAt = e.Trouble, time.Now()
		if w.reading != nil {
			w.reading.trouble = e.Trouble
		}
	}
	w.sendAll(event("reader", e))
}

// greet sends how the reader is to a stream that was just opened, with the
// trouble that whoever reloads a page has not seen the end of.
func (ws *windows) greet(name string, c *client, reader Reader) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	e := ReaderEvent{Reader: reader}
	if w := ws.at(name); w.trouble != nil && time.Since(w.troubleAt) < freshTrouble {
		e.Trouble = w.trouble
	}
	c.send(event("reader", e))
}

// sendTo sends to the streams of a pairing, and says whether the one that claims
// the window took it.
func (w *window) sendTo(token string, e []byte) (taken bool) {
	for c, t := range w.streams {
		if t == token {
			taken = c.send(e) && c == w.claimant || taken
		}
	}
	return taken
}

func (w *window) sendAll(e []byte) {
	for c := range w.streams {
		c.send(e)
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
// only; without one it is counted and forgotten. The photo is cleared when nobody
// may have it any more.
func (s *Server) ShowCard(e idcard.Event) {
	switch e.Type {
	case idcard.CardRead:
		s.windows.give(CardEvent{
			Reader: e.Reader, Window: e.Window, At: e.At, Card: e.Card,
			Warnings: listed(e.Warnings), Photo: len(e.Photo) > 0,
		}, e.Photo, func(id string) bool { return s.opt.Pairings.stands(id, e.Window) })
	case idcard.CardAddresses:
		s.windows.add(AddressesEvent{Reader: e.Reader, Window: e.Window, At: e.At, Addresses: e.Addresses, Warnings: listed(e.Warnings)})
	case idcard.CardRemoved:
		s.windows.remove(RemovedEvent{Reader: e.Reader, Window: e.Window, At: e.At})
	case idcard.CardTroubled:
		if reader, ok := s.opt.Window(e.Window); ok {
			s.windows.toAll(ReaderEvent{Reader: reader, Trouble: e.Trouble})
		}
	}
}

// listed is a list in JSON even when there is nothing in it.
func listed(w []idcard.Warning) []idcard.Warning { return append([]idcard.Warning{}, w...) }

// ShowReader tells the streams of a window how its reader is.
func (s *Server) ShowReader(r Reader) { s.windows.toAll(ReaderEvent{Reader: r}) }

// enter admits a request about a window to the workstations that were paired for
// it, or refuses it and says false.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) (window, token string, ok bool) {
	window = r.PathValue("window")
	p, ok := s.admit(w, r)
	if !ok {
		return "", "", false
	}
	if !p.covers(window) {
		refuse(w, http.StatusForbidden, "scope", "this workstation is paired for another window")
		return "", "", false
	}
	if _, ok := s.opt.Window(window); !ok {
		refuse(w, http.StatusNotFound, "window", "no reader is configured for this window")
		return "", "", false
	}
	return window, p.ID, true
}

func (s *Server) streamWindow(w http.ResponseWriter, r *http.Request) {
	window, token, ok := s.enter(w, r)
	if !ok {
		return
	}
	c, ok := s.windows.join(window, token, r.URL.Query().Get("claim") == "1")
	if !ok {
		refuse(w, http.StatusConflict, "claimed", "another stream or request has claimed this window")
		return
	}
	defer s.windows.leave(window, c)
	if reader, ok := s.opt.Window(window); ok { // asked only now: a change before was told to nobody
		s.windows.greet(window, c, reader)
	}
	c.serve(w, r)
}
