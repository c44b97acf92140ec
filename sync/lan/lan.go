// Package lan serves the hall on the local network: the HTTP API and the live
// streams for the counter workstations, the pages, health and metrics.
//
// The API is closed by default: the Host header must be one of ours, an Origin
// must be our own or one of an exact list, and everything about a window needs
// the bearer token of a workstation that was paired for that window. Streams are
// Server-Sent Events, since browsers reconnect them by themselves and proxies
// let them through; each has a short queue of its own, and a client that does
// not read is dropped rather than waited for. Connections, and streams that need
// no token, are limited in number.
//
// A card goes to the stream or the request that claimed its window. In memory it
// is held for that workstation until it is lifted, the next one comes, the stream
// ends, the pairing is revoked, or ten minutes are over; nobody else gets it, and
// who comes later gets nothing.
//
// Limits: until the agent speaks TLS it listens on loopback only. Callers behind
// a proxy are one address and share what one may have. The pictures of a held
// card are wiped when it goes; its texts, and what is on its way to a client, are
// left to the garbage collector.
package lan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/hallagent/hallagent/idcard"
	"github.com/hallagent/hallagent/sync/wire"
)

// Options are what a Server needs. Functions are called from many goroutines.
type Options struct {
	Listen  []string // host:port, loopback only
	Hosts   []string // names in the Host header besides those of Listen
	Origins []string // exact origins that browsers may call from

	Hall        func() Hall                        // for /v1/hall
	Occupancy   func() wire.Occupancy              // for /v1/occupancy
	Day         func(date string) (wire.Day, bool) // for /v1/occupancy/day; "" is the current day
	Correct     Correct
	Corrections func() ([]json.RawMessage, error) // events hall.correction.v1 of the last seven days
	NotReady    func() []string                   // why /readyz says no; empty when ready
	Window      func(w string) (Reader, bool)     // the reader of a window
	Reread      func(window string) bool          // reads the card that lies there once more; false: none does; nil: never
	Photo       Decode                            // nil: photos stay as they are on the card
	Metrics     http.Handler
	Pairings    *Pairings
	Log         *slog.Logger
}

// Decode makes a PNG of the 1024 bytes of a card's photo, or says what kept it
// from doing so.
type Decode func(ctx context.Context, block []byte) (png []byte, trouble *idcard.Trouble)

// Server is the LAN side of an agent.
type Server struct {
	opt       Options
	occupancy *hub
	windows   *windows
	limits    *limits
	handler   http.Handler

	mu          sync.Mutex
	listeners   []Listener
	pairingsErr string // why the pairings cannot be read, as it was last told
}

// Listener is the state of one address the server listens on.
type Listener struct {
	Address string    `json:"address"`
	State   string    `json:"state"` // "online", "waiting"
	Since   time.Time `json:"since"`
	Code    string    `json:"code,omitempty"` // busy, permission, no_address, io
	Err     string    `json:"err,omitempty"`
	Hint    string    `json:"hint,omitempty"`
}

// relisten is the pause before an address that is taken is tried again.
const relisten = 2 * time.Second

// New makes a server; Run listens.
func New(opt Options) *Server {
	s := &Server{opt: opt, occupancy: newHub(), windows: newWindows(), limits: newLimits()}
	for _, a := range opt.Listen {
		s.listeners = append(s.listeners, Listener{Address: a, State: "waiting", Since: time.Now()})
	}
	s.handler = s.routes()
	return s
}

// Handler is the whole API with its gates, for tests and for Run.
func (s *Server) Handler() http.Handler { return s.handler }

// Run serves all addresses until ctx ends. An address that is taken by another
// process is tried again for as long as it takes, since the other one may go.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.tidy(ctx) })
	for i := range s.listeners {
		wg.Go(func() { s.serve(ctx, i) })
	}
	wg.Wait()
	return ctx.Err()
}

func (s *Server) serve(ctx context.Context, i int) {
	address := s.listeners[i].Address
	for ctx.Err() == nil {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", address)
		if err == nil {
			s.note(i, "online", nil)
			err = s.accept(ctx, l)
		}
		if ctx.Err() != nil {
			return
		}
		s.note(i, "waiting", err)
		select {
		case <-ctx.Done():
		case <-time.After(relisten):
		}
	}
}

// accept serves one open listener until it fails or ctx ends. Streams end with
// ctx too, so that a shutdown never waits for a browser.
func (s *Server) accept(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second, // a stream sets its own, event by event
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.opt.Log.Handler(), slog.LevelDebug),
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		<-stop.Done()
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(limit) != nil {
			srv.Close()
		}
	})
	if err := srv.Serve(&limitedListener{Listener: l, limits: s.limits, log: s.opt.Log}); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// note keeps the state of a listener and logs its changes.
func (s *Server) note(i int, state string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.listeners[i]
	code, hint, text := listenCause(err), listenHints[listenCause(err)], ""
	if err != nil {
		text = err.Error()
	}
	if l.State != state || l.Err != text {
		l.Since = time.Now()
		if err != nil {
			s.opt.Log.Warn("cannot listen", "address", l.Address, "code", code, "err", err, "hint", hint)
		} else {
			s.opt.Log.Info("listening", "address", l.Address)
		}
	}
	l.State, l.Code, l.Err, l.Hint = state, code, text, hint
}

// listenCause gives the stable code of what keeps an address from being served.
func listenCause(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, syscall.EADDRINUSE):
		return "busy"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no_address"
	case errors.Is(err, fs.ErrPermission):
		return "permission"
	}
	return "io"
}

var listenHints = map[string]string{
	"busy":       "another process holds the port: stop it, or change lan.listen",
	"no_address": "this machine does not have the address: correct lan.listen, or bring the network up",
	"permission": "the service's user may not open a port below 1024: change lan.listen",
}

// Listeners gives the state of every address.
func (s *Server) Listeners() []Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Listener(nil), s.listeners...)
}

// ShowOccupancy sends a new estimate to every open stream.
func (s *Server) ShowOccupancy(o wire.Occupancy) {
	s.occupancy.send(event("occupancy", o))
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", s.opt.Metrics)
	mux.HandleFunc("GET /v1/hall", s.hall)
	mux.HandleFunc("GET /v1/occupancy", s.getOccupancy)
	mux.HandleFunc("GET /v1/occupancy/stream", s.limitStreams(s.streamOccupancy))
	mux.HandleFunc("GET /v1/occupancy/day", s.getDay)
	mux.HandleFunc("GET /v1/occupancy/corrections", s.getCorrections)
	mux.HandleFunc("POST /v1/occupancy/corrections", s.postCorrection)
	mux.HandleFunc("POST /v1/pair", s.pair)
	mux.HandleFunc("GET /v1/windows/{window}/stream", s.streamWindow)
	mux.HandleFunc("GET /v1/windows/{window}/card", s.getCard)
	mux.HandleFunc("GET /v1/windows/{window}/photo", s.getPhoto)
	mux.HandleFunc("POST /v1/windows/{window}/reads", s.postRead)
	mux.Handle("GET /{$}", page("hall.html"))
	mux.Handle("GET /window/{window}", page("window.html"))
	mux.Handle("GET /page/", http.StripPrefix("/page/", assets()))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "not_found", "nothing here")
	})
	return s.gate(mux)
}

func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	reasons := s.opt.NotReady()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(reasons) == 0 {
		fmt.Fprintln(w, "ready")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	for _, reason := range reasons {
		fmt.Fprintln(w, reason)
	}
}

func (s *Server) hall(w http.ResponseWriter, r *http.Request) {
	answer(w, s.opt.Hall())
}

func (s *Server) getOccupancy(w http.ResponseWriter, r *http.Request) {
	answer(w, s.opt.Occupancy())
}

func (s *Server) streamOccupancy(w http.ResponseWriter, r *http.Request) {
	client := s.occupancy.join(func() []byte { return event("occupancy", s.opt.Occupancy()) })
	defer s.occupancy.leave(client)
	client.serve(w, r)
}
