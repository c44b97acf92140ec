package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"
)

const goodbye = 2 * time.Second // for giving leases back

// Run serves halls until ctx ends: it takes its share of the leases, gives back
// what is too much, and at the end all of them. It returns an error only when the
// tables cannot be made, or the leases of an instance of the same name cannot be
// taken over. broker must live on until Run has returned.
func (in *Inbox) Run(ctx context.Context, broker Broker) error {
	if err := in.opts.Store.Migrate(ctx, "inbox", tables); err != nil {
		return err
	}
	if err := in.adopt(ctx); err != nil {
		return err
	}
	for _, h := range in.opts.Halls {
		in.discover(h)
	}
	var wg sync.WaitGroup
	wg.Go(func() { in.sessions(ctx, broker) })
	in.lead(ctx, broker, &wg)
	wg.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if err := in.leave(last); err != nil {
		in.log.Warn("instance not signed off", "err", err)
	}
	return nil
}

// sessions follows the connections to the broker.
func (in *Inbox) sessions(ctx context.Context, broker Broker) {
	for {
		s, err := broker.Session(ctx)
		if err != nil {
			return // ctx has ended, or the broker's client
		}
		in.session.Store(&s)
		in.mu.Lock()
		in.connected = true
		in.mu.Unlock()
		signal(in.news)
		select {
		case <-s.Done():
		case <-ctx.Done():
			return
		}
		in.mu.Lock()
		in.connected, in.away = false, time.Now()
		clear(in.told) // who is there, the next connection tells
		for _, h := range in.held {
			h.alone()
		}
		in.mu.Unlock()
	}
}

// online says that halls can be served: a connection to the broker that comes
// back within the life of a lease leaves them where they are.
func (in *Inbox) online() bool {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.connected || time.Since(in.away) < in.leaseLife
}

// disown stops serving all halls.
func (in *Inbox) disown() {
	in.mu.RLock()
	defer in.mu.RUnlock()
	for _, h := range in.held {
		h.stop()
	}
}

// lead looks at the leases again and again and does what share says. When they
// could not be renewed for as long as they live, the halls may be another's.
func (in *Inbox) lead(ctx context.Context, broker Broker, wg *sync.WaitGroup) {
	tick := time.NewTicker(in.leaseLook)
	defer tick.Stop()
	var renewed time.Time
	guard := time.AfterFunc(in.leaseLife, in.disown)
	defer guard.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, in.leaseLife)
		err := in.lookOnce(ctx, bounded, broker, wg, &renewed)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if left := time.Until(renewed.Add(in.leaseLife)); left > 0 {
			guard.Reset(left)
		}
		in.mu.Lock()
		news := (err == nil) != (in.status.Err == "")
		in.status.Err = ""
		if err != nil {
			in.status.Err = err.Error()
		}
		in.mu.Unlock()
		if news && err != nil {
			in.log.Warn("leases cannot be looked at", "err", err)
		} else if news {
			in.log.Info("leases can be looked at again")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-in.news:
		}
	}
}

func (in *Inbox) lookOnce(ctx, bounded context.Context, broker Broker, wg *sync.WaitGroup, renewed *time.Time) error {
	leases, instances, err := in.look(bounded)
	if err != nil {
		return fmt.Errorf("look at leases: %w", err)
	}
	in.mu.Lock()
	in.leases, in.status.Instances = leases, max(1, len(instances))
	for _, l := range leases {
		in.known[l.hall] = true
	}
	found := in.discovered
	in.mu.Unlock()

	if !in.online() {
		in.disown() // each gives its lease back when it has ended
		if renewed.IsZero() {
			return nil
		}
		*renewed = time.Time{}
		if err := in.leave(bounded); err != nil {
			return fmt.Errorf("sign off: %w", err)
		}
		return nil
	}
	in.follow(ctx, leases, broker, wg)
	p := share(in.opts.Instance, instances, leases)
	for _, l := range p.release {
		if h := in.holder(l); h != nil {
			h.stop() // it gives the lease back when it has ended
		} else if err := in.release(bounded, l.hall, l.token); err != nil {
			return fmt.Errorf("release lease: %w", err)
		}
	}
	now := time.Now()
	if now.Sub(*renewed) < in.leaseLife/3 && len(p.take)+len(found) == 0 {
		return nil
	}
	took := false
	err = in.opts.Store.Tx(bounded, func(tx *sql.Tx) error {
		took = false
		if err := in.renew(bounded, tx); err != nil {
			return err
		}
		for _, l := range p.take {
			ok, err := in.take(bounded, tx, l)
			if err != nil {
				return err
			}
			took = took || ok
		}
		return in.write(bounded, tx, found)
	})
	if err != nil {
		return fmt.Errorf("take leases: %w", err)
	}
	*renewed = now
	in.mu.Lock()
	in.discovered = in.discovered[len(found):]
	in.mu.Unlock()
	if took || len(found) > 0 {
		signal(in.news) // and see what is ours now
	}
	return nil
}

// follow serves what is ours, and stops serving what is not.
func (in *Inbox) follow(ctx context.Context, leases []lease, broker Broker, wg *sync.WaitGroup) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, l := range leases {
		h := in.held[l.hall]
		ours := l.holder == in.opts.Instance
		switch {
		case h != nil && (!ours || h.token != l.token):
			h.stop()
		case h == nil && ours && ctx.Err() == nil:
			h = newHall(ctx, in, broker, l)
			if state, ok := in.told[l.hall]; ok {
				h.heard(state, false, true)
			}
			in.held[l.hall] = h
			wg.Go(func() { in.serve(ctx, h) })
		}
	}
}

func (in *Inbox) holder(l lease) *hall {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.held[l.hall]
}

// serve runs one hall and gives its lease back.
func (in *Inbox) serve(ctx context.Context, h *hall) {
	in.log.Info("hall taken", "hall", name(h.hall), "token", h.token)
	err := h.run()
	if ctx.Err() == nil { // else the last acknowledgements go out with the client's farewell
		h.forget()
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if failed := in.release(last, h.hall, h.token); failed != nil {
		in.log.Warn("lease not given back", "hall", name(h.hall), "err", failed, "hint", "it ends by itself")
	}
	in.log.Info("hall left", "hall", name(h.hall), "token", h.token, "err", err)
	in.mu.Lock()
	delete(in.held, h.hall)
	in.mu.Unlock()
	h.close()
	signal(in.news)
}
