package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/idcard"
)

// lineReader is a reader at the end of a line, for a command that uses one by
// itself. Its link logs to stderr.
type lineReader struct {
	url, kind string
	dial      func(device.Dial) device.Dial // wraps the opening of the line; may be nil
	deliver   func(idcard.Event)
}

// link makes the link to the reader; nothing is opened before it runs.
func (r lineReader) link(s streams) (*device.Link, *idcard.Reader, error) {
	address, err := device.ParseAddress(r.url)
	if err != nil {
		return nil, nil, err
	}
	reader, err := idcard.NewReader(idcard.Config{ID: "reader", Kind: r.kind, Window: "-", Poll: 200 * time.Millisecond, Baud: address.Baud, Auto: address.AutoBaud()},
		func(_ context.Context, e idcard.Event) { r.deliver(e) }, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	return linkTo(address, r.dial, reader.Use, s), reader, nil
}

// linkTo makes a link to whatever is on the line at an address.
func linkTo(address device.Address, wrap func(device.Dial) device.Dial, use device.Use, s streams) *device.Link {
	dial := agent.Dial(address)
	if wrap != nil {
		dial = wrap(dial)
	}
	return device.NewLink("line", dial, use, slog.New(slog.NewTextHandler(s.err, nil)))
}
