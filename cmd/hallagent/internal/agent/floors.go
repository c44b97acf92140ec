package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// part is one blocking Run and the name it has in errors.
type part struct {
	name string
	run  func(context.Context) error
}

// floor is a set of parts that start together and stop together. What stands on
// it is started after enter has returned, and stopped, whole, before leave is
// called and the floor ends. Both may be nil; enter returns when ctx ends.
type floor struct {
	parts []part
	enter func(context.Context)
	leave func()
}

// climb runs floors, the first lowest: started bottom-up, stopped top-down. It
// returns when nothing runs any more: ctx's error, or that of the part that
// ended by itself, which ends everything.
func climb(ctx context.Context, floors ...floor) error {
	var failed error
	var once sync.Once
	broken := make(chan struct{})

	type running struct {
		stop func()
		wg   *sync.WaitGroup
	}
	var up []running
	for _, f := range floors {
		// A floor outlives ctx: it ends when its turn comes.
		own, stop := context.WithCancel(context.WithoutCancel(ctx))
		wg := &sync.WaitGroup{}
		for _, p := range f.parts {
			wg.Go(func() {
				err := p.run(own)
				if own.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
					return
				}
				once.Do(func() {
					failed = fmt.Errorf("run %s: %w", p.name, orEnded(err))
					close(broken)
				})
			})
		}
		up = append(up, running{stop, wg})
		if f.enter != nil {
			f.enter(ctx)
		}
	}
	select {
	case <-ctx.Done():
	case <-broken:
	}
	for i := len(up) - 1; i >= 0; i-- {
		up[i].stop()
		up[i].wg.Wait()
		if i > 0 && floors[i-1].leave != nil {
			floors[i-1].leave()
		}
	}
	if failed != nil {
		return failed
	}
	return ctx.Err()
}

var errEnded = errors.New("ended without a reason")

func orEnded(err error) error {
	if err == nil {
		return errEnded
	}
	return err
}
