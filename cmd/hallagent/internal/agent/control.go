package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"path/filepath"
	"time"

	"github.com/hallagent/hallagent/sync/lan"
)

// SocketPath is the control socket of the agent with that data directory.
func SocketPath(data string) string { return filepath.Join(data, "control.sock") }

// Offer is a one-time code to pair a workstation with.
type Offer struct {
	Role    string    `json:"role"`
	Code    string    `json:"code"`
	Window  string    `json:"window"`
	Expires time.Time `json:"expires"`
}

// relisten is the pause before the control socket is tried again.
const relisten = 5 * time.Second

// control serves the control socket: what the machine's own user may do and the
// LAN may not. Where the disk does not take the socket, it is tried again.
func (a *Agent) control(ctx context.Context) error {
	said := ""
	for ctx.Err() == nil {
		err := a.serveControl(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			a.log.Warn("control socket is not there", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(relisten):
		}
	}
	return ctx.Err()
}

func (a *Agent) serveControl(ctx context.Context) error {
	l, err := listenPrivate(ctx, SocketPath(a.cfg.Data))
	if err != nil {
		return fmt.Errorf("open control socket: %w", err)
	}
	srv := &http.Server{Handler: a.controls(), ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve control socket: %w", err)
	}
	return nil
}

func (a *Agent) controls() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /pairings", func(w http.ResponseWriter, r *http.Request) {
		window, role := r.URL.Query().Get("window"), lan.Teller
		if r.URL.Query().Get("role") == lan.Manager {
			window, role = "", lan.Manager
		} else if _, ok := a.window(window); !ok {
			http.Error(w, fmt.Sprintf("no reader is configured for window %q", window), http.StatusNotFound)
			return
		}
		code, expires := a.pairings.Offer(window, role)
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(Offer{Code: code, Window: window, Role: role, Expires: expires})
	})
	mux.HandleFunc("GET /hall", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(a.view())
	})
	a.outboxControls(mux)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// ControlClient talks to the agent with that data directory.
func ControlClient(data string) *http.Client {
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", SocketPath(data))
			},
		},
	}
}
