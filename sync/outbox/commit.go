package outbox

import (
	"errors"
	"fmt"
	"maps"
	"runtime"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// commit writes a batch, which may be nil, and a bounded part of the tasks in
// one transaction and answers who waited for it. more says that records beyond
// MaxSize are left to be dropped.
func (w *writer) commit(b *batch) (more bool, err error) {
	next, done, more, err := w.try(b)
	for room, dropped := error(nil), false; errors.Is(err, berrors.ErrMaxSizeReached) && room == nil; dropped = true {
		if dropped || w.copied != nil { // nothing yet: those who read may only hold what was freed
			room = w.makeRoom(b)
		}
		w.o.mu.Lock() // nobody reads
		next, done, more, err = w.try(b)
		w.o.mu.Unlock()
	}
	if err != nil {
		err = fmt.Errorf("write %s: %w", w.o.opts.Path, err)
		return false, w.giveUp(b, err)
	}
	if w.renewed {
		w.renewed = false
		w.o.note(func(s *Status) { s.Begun = Restored })
	}
	dropped := !maps.Equal(next.Dropped, w.state.Dropped)
	news := next.current().Last > w.state.current().Last || dropped
	w.disturbed = w.disturbed || dropped
	w.state, w.o.refused = next, nil
	w.o.note(func(s *Status) {
		w.tell(s)
		s.FileBytes = w.fileBytes
		s.Commits++
	})
	if b != nil {
		b.epoch = next.current().Epoch
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

// try writes one transaction; nothing is changed if it fails.
func (w *writer) try(b *batch) (next state, done int, more bool, err error) {
	next = w.state.clone()
	before := map[string][]byte{}
	var fileBytes int64
	err = w.h.update(func(tx *bolt.Tx) (err error) {
		if b != nil {
			if err := next.appendTo(tx, b.entries, before); err != nil {
				return err
			}
		}
		if done, err = w.work(tx, &next); err != nil {
			return err
		}
		// Not in the transaction of a batch, which may have to be undone.
		if more = next.over(w.o.opts.MaxSize); more && b == nil {
			if more, err = next.shed(tx, w.o.opts.MaxSize); err != nil {
				return err
			}
		}
		fileBytes = tx.Size()
		return next.save(tx)
	})
	if err == nil {
		w.fileBytes = fileBytes
	} else if b != nil {
		e := w.state.current()
		w.o.refused = &refusal{Position{e.Epoch, e.Last}, before}
	}
	return next, done, more, err
}

// limit is how far the file may grow: not quite to MaxSize, since to delete
// takes pages, too.
func (w *writer) limit() int64 {
	if w.o.opts.MaxSize < 1<<20 {
		return 0
	}
	if runtime.GOOS == "windows" { // where bbolt holds the doubled size of its map against it
		return w.o.opts.MaxSize
	}
	return w.o.opts.MaxSize - w.o.opts.MaxSize/headroom
}

// headroom is the part of MaxSize that is kept for deleting.
const headroom = 16

// growth gives by how much a file grows at a time, once it has that much.
func growth(limit int64) int {
	if limit == 0 {
		return 16 << 20
	}
	return int(min(16<<20, max(1<<16, limit/32)))
}

// makeRoom drops the oldest records when the file may not grow any more, so much
// of them that it is not done for each batch. It fails when there are none.
func (w *writer) makeRoom(b *batch) error {
	room := w.o.opts.MaxSize / headroom
	if b != nil {
		for _, e := range b.entries {
			room += 2 * size(e.value)
		}
	}
	if w.state.Pending < 2 {
		return fmt.Errorf("make room: %w", berrors.ErrMaxSizeReached)
	}
	keep := max(1, w.state.PendingBytes-room)
	w.h.db.MaxSize = int(w.o.opts.MaxSize)
	defer func() { w.h.db.MaxSize = int(w.limit()) }()
	for more := true; more; {
		next := w.state.clone()
		err := w.h.update(func(tx *bolt.Tx) (err error) {
			if more, err = next.shed(tx, keep); err != nil {
				return err
			}
			return next.save(tx)
		})
		if err != nil {
			return fmt.Errorf("make room: %w", err)
		}
		w.state, w.disturbed = next, true
	}
	w.o.note(w.tell)
	return nil
}

// work does tasks until one is not through in this transaction; it gives how
// many are. An error of a task is its caller's, not the transaction's.
func (w *writer) work(tx *bolt.Tx, s *state) (done int, err error) {
	for _, t := range w.tasks {
		t.err = nil
		if t.fault != nil {
			return done, t.fault
		}
		if t.renew {
			if t.err = w.renew(tx, s); t.err == nil {
				done++
				continue
			}
			return done, t.err
		}
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

// renew begins a new epoch; the records of the old one stay until they are
// acknowledged.
func (w *writer) renew(tx *bolt.Tx, s *state) error {
	e := s.current()
	epoch, _, err := w.o.opts.NewEpoch(e.Epoch)
	if err != nil {
		return fmt.Errorf("begin an epoch: %w", err)
	}
	w.o.opts.Log.Error("store was put back from a copy: a new epoch begins", "stream", s.Stream, "epoch", epoch, "err", e.Epoch+" is older than what it was")
	ended := Gap{Epoch: e.Epoch, From: e.Last + 1, To: e.Last, Open: true, Reason: ReasonRestore}
	if e.Acknowledged == e.Last { // nothing of it waits
		s.Epochs = s.Epochs[:len(s.Epochs)-1]
		if err := tx.DeleteBucket(epochBucket(ended.Epoch)); err != nil {
			return err
		}
	}
	w.renewed = true
	return s.beginEpoch(tx, epoch, ended)
}
