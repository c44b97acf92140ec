package lan

import (
	"bytes"
	"context"
	"net/http"
	"time"
)

const (
	holdFor  = 10 * time.Minute // a card that nobody lifts is not kept longer
	tidyEach = 5 * time.Second
)

// HeldCard is a card that lies on the reader, for the workstation that got it.
type HeldCard struct {
	CardEvent
	Addresses []string `json:"new_addresses"` // that the chip holds besides the printed one
}

// held is the card at a window and whose it is. It lives in memory only.
type held struct {
	token string // of the pairing that got it
	card  HeldCard
	photo []byte // as on the card; nil without one
	png   []byte // the decoded photo, once somebody asked for it
	until time.Time
}

// release forgets the card at the window and wipes its pictures.
func (w *window) release() {
	if h := w.held; h != nil {
		clear(h.photo)
		clear(h.png)
		w.held = nil
	}
}

// holding gives a copy of the card at a window if that pairing got it, with its
// pictures only for who clears them.
func (ws *windows) holding(name, token string, pictures bool) (held, bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	h := ws.at(name).held
	if h == nil || h.token != token || time.Now().After(h.until) {
		return held{}, false
	}
	c := *h
	c.photo, c.png = nil, nil
	if pictures {
		c.photo, c.png = bytes.Clone(h.photo), bytes.Clone(h.png)
	}
	return c, true
}

// keepPicture keeps a decoded photo with the card it belongs to, if that is
// still there.
func (ws *windows) keepPicture(name string, of held, png []byte) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if h := ws.at(name).held; h != nil && h.png == nil && h.until.Equal(of.until) && h.token == of.token {
		h.png = bytes.Clone(png)
	}
}

// tidy forgets cards that are held for too long and those of pairings that were
// revoked, until ctx ends; then it forgets all.
func (s *Server) tidy(ctx context.Context) {
	tick := time.NewTicker(tidyEach)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.windows.forget()
			return
		case <-tick.C:
		}
		for name, token := range s.windows.holders() { // the pairings are on disk: no lock is held
			s.windows.tidy(name, token, s.opt.Pairings.stands(token, name))
		}
	}
}

// holders gives the pairing by window that a card is held for.
func (ws *windows) holders() map[string]string {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	tokens := map[string]string{}
	for name, w := range ws.all {
		if w.held != nil {
			tokens[name] = w.held.token
		}
	}
	return tokens
}

// tidy takes a card that lay there for too long from the screens that show it,
// and everything from a pairing that no longer stands.
func (ws *windows) tidy(name, token string, stands bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.at(name)
	h := w.held
	switch {
	case h == nil || h.token != token:
	case !stands:
		w.revoke(token)
	case time.Now().After(h.until):
		w.sendTo(token, event("removed", RemovedEvent{Reader: h.card.Reader, Window: name, At: time.Now().UTC()}))
		w.release()
	}
}

func (ws *windows) forget() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.all {
		w.release()
	}
}

// claimedCard gives the card at a request's window, or refuses the request and
// says false.
func (s *Server) claimedCard(w http.ResponseWriter, r *http.Request, pictures bool) (window string, h held, ok bool) {
	window, token, ok := s.enter(w, r)
	if !ok {
		return "", held{}, false
	}
	if h, ok = s.windows.holding(window, token, pictures); !ok {
		refuse(w, http.StatusNotFound, "no_card", "no card lies there that this workstation got")
	}
	return window, h, ok
}

func (s *Server) getCard(w http.ResponseWriter, r *http.Request) {
	if _, h, ok := s.claimedCard(w, r, false); ok {
		answer(w, h.card)
	}
}

// getPhoto gives the photo of the card as a PNG. Without a decoder, or when the
// caller wants it raw, it is the 1024 bytes of the card.
func (s *Server) getPhoto(w http.ResponseWriter, r *http.Request) {
	window, h, ok := s.claimedCard(w, r, true)
	if !ok {
		return
	}
	defer func() { clear(h.photo); clear(h.png) }()
	if len(h.photo) == 0 {
		refuse(w, http.StatusNotFound, "no_photo", "no photo was read with this card")
		return
	}
	if s.opt.Photo == nil || r.URL.Query().Get("raw") == "1" {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(h.photo)
		return
	}
	if h.png == nil {
		png, trouble := s.opt.Photo(r.Context(), h.photo)
		if trouble != nil {
			refuse(w, http.StatusBadGateway, trouble.Code, trouble.EN)
			return
		}
		h.png = png
		s.windows.keepPicture(window, h, png)
	}
	w.Header().Set("Content-Type", "image/png")
	w.Write(h.png)
}
