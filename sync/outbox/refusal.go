package outbox

import (
	"bytes"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// refusal is a batch whose callers were told that it was not written: where the
// stream ended and what its marks were before, sealed, nil if there was none. The
// disk may have kept the batch although it said that it had not, and the callers
// may append the same once more.
type refusal struct {
	last  Position
	marks map[string][]byte
}

// undo takes out of an opened store what was refused.
func (w *writer) undo() error {
	r := w.o.refused
	w.o.refused = nil
	if r == nil || w.state.current().Epoch != r.last.Epoch {
		return nil
	}
	next, kept := w.state.clone(), false
	err := w.h.update(func(tx *bolt.Tx) error {
		e := next.current()
		bucket := tx.Bucket(epochBucket(e.Epoch))
		for ; e.Last > r.last.Seq; e.Last-- {
			kept = true
			next.Accepted--
			next.leave(bucket.Get(key(e.Last)))
			if err := bucket.Delete(key(e.Last)); err != nil {
				return err
			}
		}
		for name, b := range r.marks {
			if bytes.Equal(tx.Bucket(bucketMarks).Get([]byte(name)), b) {
				continue
			}
			kept = true
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
	if kept {
		w.o.opts.Log.Warn("refused records were on the disk, and are taken out", "stream", w.o.opts.Stream, "epoch", r.last.Epoch, "seq", r.last.Seq)
	}
	return nil
}

// forget leaves out of a damaged file what was refused.
func (c *contents) forget(r *refusal) {
	if r == nil || c.state == nil || c.state.current().Epoch != r.last.Epoch {
		return
	}
	c.refused = r
	e := c.state.current()
	for ; e.Last > r.last.Seq; e.Last-- {
		c.state.Accepted--
		c.state.Pending--
	}
}
