package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/sync/mqtt"
)

// Tried is what came of reaching one thing that the configuration names.
type Tried struct {
	What string // line "gates", broker
	Err  error  // nil: it is there
	Hint string
}

const tryLimit = 10 * time.Second // for one line, or for the broker

// Try opens every line once and connects to the broker, under another client id
// than the agent's. It asks no device anything.
func Try(ctx context.Context, cfg config.Config) []Tried {
	var all []Tried
	for _, l := range cfg.Lines {
		all = append(all, tryLine(ctx, l))
	}
	return append(all, tryBroker(ctx, cfg))
}

func tryLine(ctx context.Context, l config.Line) Tried {
	t := Tried{What: `line "` + l.ID + `"`}
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	c, err := Dial(l.URL.Address)(ctx)
	if err != nil {
		t.Err = err
		_, t.Hint = device.Cause(err)
		return t
	}
	t.Err = c.Close()
	return t
}

func tryBroker(ctx context.Context, cfg config.Config) Tried {
	b := cfg.Broker
	client := mqtt.New(mqtt.Options{
		URL: b.URL, ClientID: "hallagent-check-" + cfg.Hall.Area + "-" + cfg.Hall.ID, Username: b.Username,
		PasswordFile: b.PasswordFile, CAFile: b.CAFile, CertFile: b.CertFile, KeyFile: b.KeyFile,
		Log: slog.New(slog.DiscardHandler),
	})
	return Tried{What: "broker " + b.URL, Err: once(ctx, client), Hint: client.Status().Hint}
}

// once runs a client until its first connection stands or the time is over.
func once(ctx context.Context, client *mqtt.Client) error {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	_, err := client.Session(ctx)
	if s := client.Status(); err != nil && s.Err != "" {
		err = statusError(s.Err)
	}
	cancel()
	<-ended
	return err
}

// statusError is the cause that a snapshot holds as text.
type statusError string

func (e statusError) Error() string { return string(e) }
