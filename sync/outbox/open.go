package outbox

import (
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// open opens the store, and salvages it if it cannot be trusted. A store that
// failed while it was open is looked through as a whole; if nothing is found and
// it fails again soon, it is salvaged all the same.
func (w *writer) open() error {
	o := w.o
	path := o.opts.Path
	if err := settle(path); err != nil {
		return err
	}
	why := sound(path, o.suspect)
	if why == nil && o.suspect && time.Since(o.doubted) < doubt {
		why = errAgain
	}
	if o.suspect {
		o.doubted = time.Now()
	}
	if why == nil {
		why = w.load()
	}
	begun := w.begun
	if isDamage(why) {
		d, err := salvage(path, o.opts, why)
		if err != nil {
			return err
		}
		o.opts.Log.Error("store was damaged", "stream", o.opts.Stream, "err", why, "epoch", d.Epoch,
			"hint", "The damaged file is kept as "+d.File+": check the disk.", "saved", d.Saved, "lost", d.Lost, "open", d.Open)
		why, begun = w.load(), Salvaged
	}
	if why != nil {
		return why
	}
	all := prune(damages(path))
	o.note(func(s *Status) {
		s.Damages = all
		if begun != "" {
			s.Begun = begun
		}
	})
	return nil
}

// lookAside notes which of the files that were set aside still lie there.
func (o *Outbox) lookAside() {
	if len(o.Status().Damages) == 0 {
		return
	}
	all := damages(o.opts.Path)
	o.note(func(s *Status) { s.Damages = all })
}

// doubt is how soon a store must fail again to be salvaged without a finding.
const doubt = 10 * time.Minute

var errAgain = fmt.Errorf("%w: it failed twice", errPages)

// load opens the file and reads its state.
func (w *writer) load() error {
	var err error
	if w.h, err = openFile(w.o.opts.Path, w.limit()); err != nil {
		return err
	}
	if w.state, w.begun, err = load(w.h, w.o.opts); err != nil {
		return errors.Join(err, w.h.close())
	}
	return nil
}

// refusal is a batch whose callers were told that it was not written: where the
// stream ended and what its marks were before.
type refusal struct {
	last  Position
	marks map[string][]byte
}

// undo takes out of an opened store what was refused. The disk may have kept it
// although it said that it had not, and the callers may have appended the same
// once more.
func (w *writer) undo() error {
	r := w.o.refused
	w.o.refused = nil
	e := w.state.current()
	if r == nil || e.Epoch != r.last.Epoch || e.Last <= r.last.Seq {
		return nil
	}
	next := w.state.clone()
	err := w.h.update(func(tx *bolt.Tx) error {
		e := next.current()
		bucket := tx.Bucket(epochBucket(e.Epoch))
		for ; e.Last > r.last.Seq; e.Last-- {
			next.Accepted--
			next.Pending--
			next.PendingBytes -= size(bucket.Get(key(e.Last)))
			if err := bucket.Delete(key(e.Last)); err != nil {
				return err
			}
		}
		for name, b := range r.marks {
			if err := next.putMark(tx, name, b); err != nil {
				return err
			}
		}
		return next.save(tx)
	})
	if err != nil {
		w.o.refused = r
		return fmt.Errorf("write %s: %w", w.o.opts.Path, err)
	}
	w.state = next
	return nil
}

// hide leaves out what is beyond the last record that was accepted.
func (s *state) hide(known Status) {
	if e := s.current(); e.Epoch == known.Epoch {
		e.Last = min(e.Last, known.Last)
	}
}
