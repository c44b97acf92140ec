package outbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Run opens the store and writes what is appended until ctx ends; then it writes
// what still waits and closes. A damaged file is salvaged. While the disk is
// unusable it tries again every 5 s. After a write that failed it opens the store
// again at once for those who read and acknowledge, since that is what makes room
// on a full disk, and lets nobody append before the disk takes something. It
// returns nil.
func (o *Outbox) Run(ctx context.Context) error {
	var failure struct {
		text   string
		logged time.Time
		count  int
	}
	held := false
	for ctx.Err() == nil {
		wrote, err := o.serve(ctx, held)
		if err == nil {
			break
		}
		code, hint := cause(err)
		held = wrote && code != codeDamaged
		o.report(false, func(s *Status) { s.Code, s.Err, s.Hint = code, err.Error(), hint })
		failure.count++
		if err.Error() != failure.text || time.Since(failure.logged) >= 30*time.Second {
			o.opts.Log.Error("outbox unusable", "stream", o.opts.Stream, "err", err, "hint", hint, "count", failure.count)
			failure.text, failure.logged, failure.count = err.Error(), time.Now(), 0
		}
		if wrote {
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
	unlock, err := lock(o.opts.Path)
	if err != nil {
		return false, err
	}
	defer unlock()
	defer func() { o.suspect = o.suspect || isDamage(err) }()
	w := &writer{o: o}
	if err := w.open(); err != nil {
		return false, err
	}
	err = w.undo()
	for more := true; more && err == nil; {
		more, err = w.commit(nil)
	}
	if err != nil {
		return false, errors.Join(err, w.h.close())
	}
	o.mu.Lock()
	o.handle = w.h
	o.mu.Unlock()
	o.queue.Lock()
	o.usable, o.taking = true, !held
	o.queue.Unlock()
	if !held {
		w.release()
	}
	o.notify()
	if err = w.leave(w.loop(ctx, held)); err != nil {
		return true, err
	}
	return false, nil
}

// leave refuses who comes now, answers who waited, and closes the store. err is
// what ended the loop; without one, what waits is written.
func (w *writer) leave(err error) error {
	o := w.o
	o.queue.Lock()
	o.usable, o.taking = false, false
	b := o.take()
	w.tasks = append(w.tasks, o.tasks...)
	wanted := o.wanted
	o.tasks, o.wanted = nil, nil
	o.queue.Unlock()
	if err == nil && (b != nil || len(w.tasks) > 0) {
		_, err = w.commit(b)
		b = nil
	}
	gone := ErrUnavailable
	if err != nil {
		gone = err
	}
	w.giveUp(b, gone)
	for _, t := range w.tasks {
		t.err = gone
		close(t.done)
	}
	for _, done := range wanted {
		done <- gone
	}
	if w.copied != nil {
		if c := w.stopCopy(); c.h != nil {
			err = errors.Join(err, c.h.close())
		}
	}
	w.closing.Wait()
	o.mu.Lock()
	o.handle = nil
	o.mu.Unlock()
	return errors.Join(err, w.h.close())
}

// gather lets those whom the last commit woke append again, as long as more of
// them do: they share the next commit then. It waits for nobody.
func (o *Outbox) gather() {
	for before := 0; ; {
		runtime.Gosched()
		o.queue.Lock()
		n := len(o.waiting.entries)
		o.queue.Unlock()
		if n <= before {
			return
		}
		before = n
	}
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
	o         *Outbox
	h         *handle
	state     state
	renewed   bool      // by the transaction under way
	begun     Beginning // by load, "" if the store was there
	tasks     []*task   // taken from the queue, not yet through
	fileBytes int64

	copied    chan *copying   // a compaction that is under way, nil if none is
	stopCopy  func() *copying // ends it early
	closing   sync.WaitGroup  // files that were replaced
	disturbed bool            // records were replaced in place since it began
	notBefore time.Time       // of the next one
	failed    string          // why the last one did, "" if it did not
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
	o.opts.Log.Info("outbox open", "stream", o.opts.Stream, "epoch", w.state.current().Epoch, "seq", w.state.current().Last, "pending", w.state.Pending)
	select {
	case <-o.opened:
	default:
		close(o.opened)
	}
}

// loop writes until ctx ends, and looks every few seconds whether the disk takes
// something again, if it did not, and whether the file still has its name.
func (w *writer) loop(ctx context.Context, held bool) error {
	o := w.o
	look := time.NewTicker(o.retry)
	defer look.Stop()
	closed := make(chan struct{})
	close(closed)
	for {
		o.gather()
		o.queue.Lock()
		b := o.take()
		w.tasks = append(w.tasks, o.tasks...)
		o.tasks = nil
		o.queue.Unlock()
		idle := b == nil && len(w.tasks) == 0
		wake := closed
		if idle {
			wake = o.wake
		}
		select {
		case <-ctx.Done():
			if idle {
				return nil
			}
		case c := <-w.copied:
			err := w.finish(c)
			if err == nil && held {
				err = w.look(ctx, &held)
			}
			if err != nil {
				return w.giveUp(b, err)
			}
		case <-look.C:
			if err := w.look(ctx, &held); err != nil {
				return w.giveUp(b, err)
			}
		case <-wake:
		}
		if idle {
			w.consider(ctx)
			continue
		}
		more, err := w.commit(b)
		for more && err == nil {
			more, err = w.commit(nil)
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		w.consider(ctx)
	}
}

// giveUp answers a batch that was taken and will not be written.
func (w *writer) giveUp(b *batch, err error) error {
	if b != nil {
		b.err = err
		close(b.done)
	}
	return err
}

// look forgets damaged files that were moved away, lets in who appends once the
// disk takes something, and writes the store anew if somebody took its name: what
// is open still holds everything, but what is accepted now would be gone with the
// process.
func (w *writer) look(ctx context.Context, held *bool) error {
	w.o.note(func(s *Status) {
		s.Damages = slices.DeleteFunc(slices.Clone(s.Damages), func(d Damage) bool { return !exists(d.File) })
	})
	switch {
	case !w.named():
		if !*held {
			*held = true
			w.hold(fmt.Errorf("write %s: %w", w.o.opts.Path, fs.ErrNotExist))
		}
		if w.copied == nil {
			w.start(ctx)
		}
	case *held && w.copied == nil:
		if err := w.probe(); err != nil {
			return fmt.Errorf("write %s: %w", w.o.opts.Path, err)
		}
		*held = false
		w.release()
	}
	return nil
}

// hold keeps out who appends, while those who read and acknowledge go on.
func (w *writer) hold(why error) {
	o := w.o
	o.queue.Lock()
	o.taking = false
	o.queue.Unlock()
	code, hint := cause(why)
	o.report(false, func(s *Status) { s.Code, s.Err, s.Hint = code, why.Error(), hint })
	o.opts.Log.Error("outbox unusable", "stream", o.opts.Stream, "err", why, "hint", hint, "count", 1)
}

// named tells whether the store's path still leads to the open file.
func (w *writer) named() bool {
	own, err := w.h.file.Stat()
	if err != nil {
		return true // of that the next write tells more
	}
	now, err := os.Stat(w.o.opts.Path)
	return err == nil && os.SameFile(own, now) || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// probe writes and removes as much as a record may take: pages that are free in
// the file do, even if the disk has none.
func (w *writer) probe() error {
	err := w.h.update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(bucketProbe)
		if err != nil {
			return err
		}
		return errors.Join(bucket.Put(bucketProbe, make([]byte, MaxValue)), w.state.save(tx))
	})
	if err != nil {
		return err
	}
	return w.h.update(func(tx *bolt.Tx) error { return errors.Join(tx.DeleteBucket(bucketProbe), w.state.save(tx)) })
}

// tell copies the state into a status.
func (w *writer) tell(s *Status) {
	st := &w.state
	e := st.current()
	s.Epoch, s.First, s.Last, s.Acknowledged = e.Epoch, e.Acknowledged+1, e.Last, e.Acknowledged
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
