package agent

import (
	"encoding/json"
	"net/http"
	"path/filepath"

	"github.com/hallagent/hallagent/sync/outbox"
)

// Streams are the names of the durable streams.
func Streams() []string { return []string{visits} }

// StorePath is the store of a stream of the agent with that data directory.
func StorePath(data, stream string) string { return filepath.Join(data, stream+".db") }

// outboxControls let the command line look into the stores while they are in use.
func (a *Agent) outboxControls(mux *http.ServeMux) {
	answer := func(w http.ResponseWriter, v any, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
	store := func(use func(http.ResponseWriter, *http.Request, *outbox.Outbox)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.PathValue("stream") != visits {
				http.Error(w, "no such stream", http.StatusNotFound)
				return
			}
			use(w, r, a.visits)
		}
	}
	mux.HandleFunc("GET /outbox/{stream}", store(func(w http.ResponseWriter, _ *http.Request, o *outbox.Outbox) {
		s := o.Status()
		s.Unreported = outbox.Unreported(StorePath(a.cfg.Data, visits))
		answer(w, s, nil)
	}))
	mux.HandleFunc("GET /outbox/{stream}/verdict", store(func(w http.ResponseWriter, _ *http.Request, o *outbox.Outbox) {
		v, err := o.Verify()
		answer(w, v, err)
	}))
	mux.HandleFunc("POST /outbox/{stream}/compact", store(func(w http.ResponseWriter, r *http.Request, o *outbox.Outbox) {
		before := o.Status().FileBytes
		err := o.Compact(r.Context())
		answer(w, Compaction{before, o.Status().FileBytes}, err)
	}))
	mux.HandleFunc("GET /outbox/{stream}/records", store(func(w http.ResponseWriter, _ *http.Request, o *outbox.Outbox) {
		w.Header().Set("Content-Type", "application/jsonl")
		w.Header().Set("Trailer", "Error") // what goes wrong after the first line can only be told after the last
		if _, err := o.Export(w); err != nil {
			w.Header().Set("Error", err.Error())
		}
	}))
}

// Compaction tells the bytes of a store's file before and after.
type Compaction struct {
	Before int64 `json:"before"`
	After  int64 `json:"after"`
}
