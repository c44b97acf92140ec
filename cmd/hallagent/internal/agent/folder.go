package agent

import (
	"context"
	"os"
	"time"
)

// remake is the pause before the data folder is made again.
const remake = 2 * time.Second

// folder makes the data folder where it could not be made at the start: its
// disk may come later. Whatever needs the folder tries again by itself, and the
// store says meanwhile what is wrong.
func (a *Agent) folder(ctx context.Context) error {
	for a.makeFolder() != nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(remake):
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func (a *Agent) makeFolder() error { return os.MkdirAll(a.cfg.Data, 0o750) }
