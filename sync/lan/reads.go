package lan

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hallagent/hallagent/idcard"
)

const (
	readWithin  = 30 * time.Second // that a request waits for a card
	longestRead = 2 * time.Minute
	longestText = 200 // characters of a purpose or notice
)

// reading is a request that claims the next card at a window.
type reading struct {
	token   string
	got     chan HeldCard   // gets one card; closed when the pairing was revoked
	trouble *idcard.Trouble // the last there was with a card, under the windows' lock
}

// claim lets a request have the next card, if nobody else claims the window: a
// stream of the same pairing is not somebody else. there says that a card lies
// there which it may have: one that nobody got or, again, one that it got itself.
func (ws *windows) claim(name, token string, again bool) (r *reading, there, ok bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.at(name)
	if w.reading != nil || w.claimant != nil && w.streams[w.claimant] != token {
		return nil, false, false
	}
	w.reading = &reading{token: token, got: make(chan HeldCard, 1)}
	return w.reading, w.lying || again && (w.got == "" || w.got == token), true
}

// unclaim ends the claim of a request and gives the last trouble it met.
func (ws *windows) unclaim(name string, r *reading) *idcard.Trouble {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w := ws.at(name); w.reading == r {
		w.reading = nil
	}
	return r.trouble
}

// readRequest is the body of POST …/reads.
type readRequest struct {
	Purpose string `json:"purpose"` // what the card is read for
	Notice  string `json:"notice"`  // what the person was told
	Lookup  bool   `json:"lookup"`
	Within  string `json:"within"` // such as 30s
	Again   bool   `json:"again"`  // also a card that this workstation got already
}

// check gives the time to wait, or a code and a text of what is wrong.
func (q readRequest) check() (within time.Duration, code, text string) {
	for _, field := range [][2]string{{"purpose", q.Purpose}, {"notice", q.Notice}} {
		if strings.TrimSpace(field[1]) == "" || utf8.RuneCountInString(field[1]) > longestText {
			return 0, field[0], fmt.Sprintf("%s is needed, in at most %d characters", field[0], longestText)
		}
	}
	if q.Within == "" {
		return readWithin, "", ""
	}
	within, err := time.ParseDuration(q.Within)
	if err != nil || within <= 0 || within > longestRead {
		return 0, "within", fmt.Sprintf("within is a time such as 30s, at most %v", longestRead)
	}
	return within, "", ""
}

// postRead claims the next card and answers with it. A card that lies there and
// that nobody got is read once more; with again, one that this workstation got
// as well, but never one that another did.
func (s *Server) postRead(w http.ResponseWriter, r *http.Request) {
	window, token, ok := s.enter(w, r)
	if !ok {
		return
	}
	var q readRequest
	if !take(w, r, &q) {
		return
	}
	within, code, text := q.check()
	switch {
	case code != "":
		refuse(w, http.StatusBadRequest, code, text)
		return
	case q.Lookup:
		refuse(w, http.StatusNotImplemented, "lookup_not_supported", "this version reads cards and looks nothing up; ask without lookup")
		return
	}
	read, there, ok := s.windows.claim(window, token, q.Again)
	if !ok {
		refuse(w, http.StatusConflict, "claimed", "another stream or request has claimed this window")
		return
	}
	defer s.windows.unclaim(window, read)
	if there && s.opt.Reread != nil {
		s.opt.Reread(window) // a card or none: it is waited for either way
	}
	// In place of the server's limits, which are shorter.
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Time{})
	rc.SetWriteDeadline(time.Now().Add(within + writeLimit))
	ctx, cancel := context.WithTimeout(r.Context(), within)
	defer cancel()
	select {
	case card, ok := <-read.got:
		answerRead(w, card, ok)
		return
	case <-ctx.Done():
	}
	trouble := s.windows.unclaim(window, read)
	select {
	case card, ok := <-read.got: // at the last moment
		answerRead(w, card, ok)
	default:
		if r.Context().Err() != nil {
			refuse(w, http.StatusServiceUnavailable, "stopping", "the agent stops, or the request was given up")
			return
		}
		text := fmt.Sprintf("no card was read within %v", within)
		if trouble != nil {
			text += fmt.Sprintf("; last trouble: %s (%s)", trouble.EN, trouble.Code)
		}
		// Not 408: browsers take that for a request that did not arrive on a
		// connection they used before, and send it once more unasked.
		refuse(w, http.StatusGatewayTimeout, "no_card", text)
	}
}

func answerRead(w http.ResponseWriter, card HeldCard, ok bool) {
	if !ok {
		refuse(w, http.StatusUnauthorized, "token", "the pairing of this workstation was revoked")
		return
	}
	answer(w, card)
}
