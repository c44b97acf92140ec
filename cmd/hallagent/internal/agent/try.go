package agent

import (
	"context"
	"log/slog"
	"os/exec"
	"time"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/idcard/photo"
	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/wire"
)

// Tried is what came of reaching one thing that the configuration names.
type Tried struct {
	What string // line "gates", broker
	Err  error  // nil: it is there
	Hint string
}

const tryLimit = 10 * time.Second // for one line, and to connect to the broker

// Try opens every line once, looks for the photo decoder and connects to the
// broker, under another client id than the agent's. It asks no device anything.
func Try(ctx context.Context, cfg config.Config) []Tried {
	var all []Tried
	for _, l := range cfg.Lines {
		all = append(all, tryLine(ctx, l))
	}
	if len(cfg.Photo.Decoder) > 0 {
		all = append(all, tryDecoder(cfg.Photo.Decoder))
	}
	return append(all, tryBroker(ctx, cfg))
}

// tryDecoder looks for the program and does not run it: there is no photo.
func tryDecoder(command []string) Tried {
	t := Tried{What: "photo decoder, locked in by " + photo.New(photo.Options{Command: command}).Status().Sandbox}
	if _, t.Err = exec.LookPath(command[0]); t.Err != nil {
		t.Hint = "correct photo.decoder, install the program, or let the agent's user execute it"
	}
	return t
}

func tryLine(ctx context.Context, l config.Line) Tried {
	t := Tried{What: `line "` + l.ID + `"`}
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	if l.URL.Listens() {
		t.Err = device.TryListen(ctx, l.URL.Address)
	} else if c, err := Dial(l.URL.Address)(ctx); err != nil {
		t.Err = err
	} else {
		t.Err = c.Close()
	}
	_, t.Hint = device.Cause(t.Err)
	return t
}

func tryBroker(ctx context.Context, cfg config.Config) Tried {
	b := cfg.Broker
	client := mqtt.New(mqtt.Options{
		URL: b.URL, ClientID: "hallagent-check-" + cfg.Hall.Area + "-" + cfg.Hall.ID, Username: b.Username,
		PasswordFile: b.PasswordFile, CAFile: b.CAFile, CertFile: b.CertFile, KeyFile: b.KeyFile,
		Echo: wire.Hall{Area: cfg.Hall.Area, ID: cfg.Hall.ID}.Echo("check"),
		Log:  slog.New(slog.DiscardHandler),
	})
	t := Tried{What: "broker " + b.URL}
	t.Hint, t.Err = once(ctx, client)
	return t
}

// once runs a client until its first attempt to connect, and its first echo, has
// an outcome, or the time is over.
func once(ctx context.Context, client *mqtt.Client) (hint string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*tryLimit) // an echo is waited for as long
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		switch s := client.Status(); {
		case s.Err != "":
			return s.Hint, statusError(s.Err)
		case s.Echo > 0:
			return "", nil
		}
		select {
		case <-ctx.Done():
			return "the broker does not answer: check broker.url, the network and the firewall", ctx.Err()
		case <-tick.C:
		}
	}
}

// statusError is the cause that a snapshot holds as text.
type statusError string

func (e statusError) Error() string { return string(e) }
