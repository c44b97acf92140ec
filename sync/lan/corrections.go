package lan

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hallagent/hallagent/sync/wire"
)

// Correct takes a head count. It returns when the count is on disk with who made
// it and why, and says what was corrected.
type Correct func(ctx context.Context, by string, people int, reason string) (wire.Correction, error)

const (
	mostPeople = 100_000 // in a hall
	longReason = 200     // characters
)

// manage admits a workstation that was paired for a manager, or refuses the
// request and says false.
func (s *Server) manage(w http.ResponseWriter, r *http.Request) (Pairing, bool) {
	p, ok := s.admit(w, r)
	if ok && p.Role != Manager {
		refuse(w, http.StatusForbidden, "role", "this needs a workstation paired for a manager: hallagent pair --role manager")
		return Pairing{}, false
	}
	return p, ok
}

// postCorrection takes {people, reason}: the visitors inside by a head count,
// without staff.
func (s *Server) postCorrection(w http.ResponseWriter, r *http.Request) {
	p, ok := s.manage(w, r)
	if !ok {
		return
	}
	var in struct {
		People *int   `json:"people"`
		Reason string `json:"reason"`
	}
	if !take(w, r, &in) {
		return
	}
	in.Reason = strings.TrimSpace(in.Reason)
	switch {
	case in.People == nil || *in.People < 0 || *in.People > mostPeople:
		refuse(w, http.StatusBadRequest, "people", "people is the number of visitors inside, 0 or more")
		return
	case in.Reason == "" || utf8.RuneCountInString(in.Reason) > longReason:
		refuse(w, http.StatusBadRequest, "reason", "say in at most 200 characters why, such as: head count after lunch")
		return
	}
	c, err := s.opt.Correct(r.Context(), p.Workstation, *in.People, in.Reason)
	if err != nil {
		s.opt.Log.Error("cannot store a head count", "err", err)
		refuse(w, http.StatusServiceUnavailable, "store", "the head count cannot be stored; the number stays as it was")
		return
	}
	answer(w, c)
}

// getCorrections gives the head counts of the last seven days, the newest last,
// as the events that were stored.
func (s *Server) getCorrections(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.manage(w, r); !ok {
		return
	}
	all, err := s.opt.Corrections()
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, "store", "the head counts cannot be read")
		return
	}
	if all == nil {
		all = []json.RawMessage{}
	}
	answer(w, all)
}

// getDay gives the curve of ?date=, of the current day without one.
func (s *Server) getDay(w http.ResponseWriter, r *http.Request) {
	date := r.URL.Query().Get("date")
	if _, err := time.Parse(time.DateOnly, date); err != nil && date != "" {
		refuse(w, http.StatusBadRequest, "date", "date is a local date such as 2026-10-01")
		return
	}
	day, ok := s.opt.Day(date)
	if !ok {
		refuse(w, http.StatusNotFound, "no_day", "nothing is known of that day; the last seven are kept")
		return
	}
	answer(w, day)
}
