package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Run opens the store and writes what is appended until ctx ends; then it writes
// what still waits and closes. While the disk is unusable it tries again every
// 5 s. After a write that failed it opens the store again at once for those who
// read and acknowledge, since that is what makes room on a full disk, and lets
// nobody append for 5 s. It returns nil.
func (o *Outbox) Run(ctx context.Context) error {
	var failure struct {
		text   string
		logged time.Time
		count  int
	}
	held := false
	for ctx.Err() == nil {
		var err error
		held, err = o.serve(ctx, held)
		if err == nil {
			break
		}
		code, hint := cause(err)
		o.report(false, func(s *Status) { s.Code, s.Err, s.Hint = code, err.Error(), hint })
		failure.count++
		if err.Error() != failure.text || time.Since(failure.logged) >= 30*time.Second {
			o.opts.Log.Error("outbox unusable", "stream", o.opts.Stream, "err", err, "hint", hint, "count", failure.count)
			failure.text, failure.logged, failure.count = err.Error(), time.Now(), 0
		}
		if held {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(o.retry):
		}
	}
	o.report(false, func(s *Status) { s.Code, s.Err, s.Hint = "", "stopped", "" })
	return nil
}

// serve opens the store and writes until ctx ends or the store fails; wrote
// says that it failed after it was open. held keeps those who append out at
// first.
func (o *Outbox) serve(ctx context.Context, held bool) (wrote bool, err error) {
	h, err := openFile(o.opts.Path)
	if err != nil {
		return false, err
	}
	w := &writer{o: o, h: h}
	if w.state, err = load(h, o.opts); err != nil {
		return false, errors.Join(err, h.close())
	}
	for more := true; more; {
		if more, err = w.commit(nil); err != nil {
			return false, errors.Join(err, h.close())
		}
	}
	o.mu.Lock()
	o.handle = h
	o.mu.Unlock()
	o.queue.Lock()
	o.usable, o.taking = true, !held
	o.queue.Unlock()
	var release <-chan time.Time
	if held {
		release = time.After(o.retry)
	} else {
		w.release()
	}
	o.notify()

	err = w.loop(ctx, release)

	// Who comes now is refused; who waited is answered.
	o.queue.Lock()
	o.usable, o.taking = false, false
	b := o.take()
	w.tasks = append(w.tasks, o.tasks...)
	o.tasks = nil
	o.queue.Unlock()
	if err == nil && (b != nil || len(w.tasks) > 0) {
		_, err = w.commit(b)
		b = nil
	}
	gone := ErrUnavailable
	if err != nil {
		gone = err
	}
	if b != nil {
		b.err = gone
		close(b.done)
	}
	for _, t := range w.tasks {
		t.err = gone
		close(t.done)
	}
	o.mu.Lock()
	o.handle = nil
	o.mu.Unlock()
	return err != nil, errors.Join(err, h.close())
}

// take gives the waiting batch, nil if nobody waits. The caller holds queue.
func (o *Outbox) take() *batch {
	if len(o.waiting.entries) == 0 {
		return nil
	}
	b := o.waiting
	o.waiting = newBatch()
	o.waiting.entries = make([]entry, 0, len(b.entries))
	return b
}

// writer is the one goroutine that writes; its state is what is on disk.
type writer struct {
	o     *Outbox
	h     *handle
	state state
	tasks []*task // taken from the queue, not yet through
}

// release lets in who appends.
func (w *writer) release() {
	o := w.o
	o.queue.Lock()
	o.taking = true
	o.queue.Unlock()
	o.report(true, func(s *Status) {
		w.tell(s)
		s.Code, s.Err, s.Hint = "", "", ""
	})
	o.opts.Log.Info("outbox open", "stream", o.opts.Stream, "epoch", w.state.Epoch, "seq", w.state.Last, "pending", w.state.Pending)
	select {
	case <-o.opened:
	default:
		close(o.opened)
	}
}

func (w *writer) loop(ctx context.Context, release <-chan time.Time) error {
	o := w.o
	more := false
	for {
		runtime.Gosched() // whom the last commit woke may already have more: then it shares this one
		o.queue.Lock()
		b := o.take()
		w.tasks = append(w.tasks, o.tasks...)
		o.tasks = nil
		o.queue.Unlock()
		if b == nil && len(w.tasks) == 0 && !more {
			select {
			case <-ctx.Done():
				return nil
			case <-o.wake:
				continue
			case <-release:
				release = nil
				w.release()
				continue
			}
		}
		var err error
		if more, err = w.commit(b); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// commit writes a batch, which may be nil, and a bounded part of the tasks in
// one transaction and answers who waited for it. more says that records beyond
// MaxSize are left to be dropped.
func (w *writer) commit(b *batch) (more bool, err error) {
	next := w.state.clone()
	done := 0
	var fileBytes int64
	err = w.h.update(func(tx *bolt.Tx) (err error) {
		if b != nil {
			if err := next.appendTo(tx, b.entries); err != nil {
				return err
			}
		}
		if done, err = w.work(tx, &next); err != nil {
			return err
		}
		if more, err = next.shed(tx, w.o.opts.MaxSize); err != nil {
			return err
		}
		fileBytes = tx.Size()
		return next.save(tx)
	})
	if err != nil {
		err = fmt.Errorf("write %s: %w", w.o.opts.Path, err)
		if b != nil {
			b.err = err
			close(b.done)
		}
		return false, err
	}
	dropped := !maps.Equal(next.Dropped, w.state.Dropped)
	news := next.Last > w.state.Last || dropped
	w.state = next
	w.o.note(func(s *Status) {
		w.tell(s)
		s.FileBytes = fileBytes
		s.Commits++
	})
	if b != nil {
		b.epoch = next.Epoch
		close(b.done)
	}
	for _, t := range w.tasks[:done] {
		close(t.done)
	}
	w.tasks = w.tasks[done:]
	if news {
		w.o.notify()
	}
	return more, nil
}

// work does tasks until one is not through in this transaction; it gives how
// many are. An error of a task is its caller's, not the transaction's.
func (w *writer) work(tx *bolt.Tx, s *state) (done int, err error) {
	for _, t := range w.tasks {
		t.err = nil
		if t.repair {
			w.o.opts.Log.Error("record damaged on disk", "stream", s.Stream, "epoch", t.position.Epoch, "seq", t.position.Seq)
			if err := s.repair(tx, t.position); err != nil {
				return done, err
			}
			done++
			continue
		}
		through, err := s.acknowledge(tx, t.position)
		switch {
		case errors.Is(err, ErrNoRecord):
			t.err = err
		case err != nil || !through:
			return done, err
		}
		done++
	}
	return done, nil
}

// tell copies the state into a status.
func (w *writer) tell(s *Status) {
	st := &w.state
	s.Epoch, s.First, s.Last, s.Acknowledged = st.Epoch, st.Acknowledged+1, st.Last, st.Acknowledged
	s.Accepted, s.AcknowledgedCount = st.Accepted, st.AckedCount
	s.Pending, s.PendingBytes, s.Gaps, s.Dropped = st.Pending, st.PendingBytes, st.Gaps, st.Dropped
}

// report changes the status, and whether it is open.
func (o *Outbox) report(open bool, f func(*Status)) {
	o.note(func(s *Status) {
		if s.Open != open {
			s.Open, s.Since = open, time.Now()
		}
		f(s)
	})
}

func (o *Outbox) note(f func(*Status)) {
	o.seen.Lock()
	defer o.seen.Unlock()
	f(&o.status)
}

// notify wakes who waits for records.
func (o *Outbox) notify() {
	o.seen.Lock()
	defer o.seen.Unlock()
	if o.appended != nil {
		close(o.appended)
		o.appended = nil
	}
}
