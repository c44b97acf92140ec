package outbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// A compaction copies what is live into a new file while the store is in use, as
// often as it takes until little is left to copy; only for that little, and the
// change of files, those who append have to wait.
const (
	compactFrom  = 16 << 20    // bytes of a file that is worth it
	compactShare = 20          // one part in so many of the file is live at most
	compactAgain = time.Minute // after one that was given up
	fewRecords   = 512         // that may be copied while the others wait
	mostRounds   = 16          // of a backlog that grows faster than it is copied
	chunkBytes   = 1 << 20     // copied in one transaction
)

// errDisturbed says that records changed in place while they were copied.
var errDisturbed = errors.New("records were replaced meanwhile")

// copying is a new file that is being filled.
type copying struct {
	h    *handle
	upto map[string]uint64 // last sequence copied, by epoch
	err  error
}

// Compact copies what is live into a new file now, and waits for it. The store
// does so by itself when it is worth it.
func (o *Outbox) Compact(ctx context.Context) error {
	done := make(chan error, 1)
	o.queue.Lock()
	if !o.usable {
		o.queue.Unlock()
		return ErrUnavailable
	}
	o.wanted = append(o.wanted, done)
	o.queue.Unlock()
	o.signal()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// consider starts a compaction if it is worth it, or asked for.
func (w *writer) consider(ctx context.Context) {
	if w.copied != nil {
		return
	}
	w.o.queue.Lock()
	wanted := len(w.o.wanted) > 0
	w.o.queue.Unlock()
	worth := w.fileBytes >= compactFrom && w.state.PendingBytes < w.fileBytes/compactShare && time.Now().After(w.notBefore)
	if !wanted && !worth {
		return
	}
	w.start(ctx)
}

// start begins to copy.
func (w *writer) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	result := make(chan *copying, 1)
	h, target := w.h, w.o.opts.Path+compactName
	w.disturbed, w.copied = false, result
	w.stopCopy = func() *copying {
		cancel()
		return <-result
	}
	go func() { // its end is waited for by whoever takes the result
		result <- copyLive(ctx, h, target, w.limit())
		cancel()
	}()
}

// copyLive copies records until little is left.
func copyLive(ctx context.Context, src *handle, target string, limit int64) *copying {
	c := &copying{upto: map[string]uint64{}}
	if c.err = os.Remove(target); c.err != nil && !errors.Is(c.err, fs.ErrNotExist) {
		return c
	}
	if c.h, c.err = openFile(target, limit); c.err != nil {
		return c
	}
	c.h.db.NoSync = true
	for range mostRounds {
		n, err := c.round(ctx, src)
		if c.err = err; err != nil || n <= fewRecords {
			return c
		}
	}
	return c
}

// round copies what is new since the last one and forgets what was acknowledged
// meanwhile. It gives how many records that were.
func (c *copying) round(ctx context.Context, src *handle) (n int, err error) {
	var s state
	err = src.view(func(tx *bolt.Tx) (err error) {
		s, err = stateOf(tx)
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, e := range s.Epochs {
		for c.upto[e.Epoch] < e.Last {
			if err := ctx.Err(); err != nil {
				return n, err
			}
			copied, err := c.chunk(src, e)
			if n += copied; err != nil {
				return n, err
			}
		}
	}
	gone, err := c.trim(s)
	return n + gone, errors.Join(err, guard(c.h.db.Sync))
}

// chunk copies a bounded part of an epoch and makes it durable, so that the disk
// never owes much when somebody who appends waits for it.
func (c *copying) chunk(src *handle, e span) (n int, err error) {
	type pair struct{ k, v []byte }
	var pairs []pair
	upto := max(c.upto[e.Epoch], e.Acknowledged)
	name := epochBucket(e.Epoch)
	err = src.view(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(name)
		if bucket == nil {
			return nil // acknowledged meanwhile
		}
		total := 0
		cursor := bucket.Cursor()
		for k, v := cursor.Seek(key(upto + 1)); k != nil && seqOf(k) <= e.Last && total < chunkBytes; k, v = cursor.Next() {
			if !intact(v, name, k) {
				return fmt.Errorf("%w: %s/%d is damaged", errDisturbed, e.Epoch, seqOf(k))
			}
			pairs = append(pairs, pair{slices.Clone(k), slices.Clone(v)})
			total += len(v)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if len(pairs) == 0 {
		c.upto[e.Epoch] = e.Last
		return 0, nil
	}
	err = c.h.update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(name)
		if err != nil {
			return err
		}
		bucket.FillPercent = 1
		for _, p := range pairs {
			if err := bucket.Put(p.k, p.v); err != nil {
				return err
			}
		}
		return nil
	})
	c.upto[e.Epoch] = seqOf(pairs[len(pairs)-1].k)
	return len(pairs), errors.Join(err, guard(c.h.db.Sync))
}

// trim deletes from the copy what s says is acknowledged.
func (c *copying) trim(s state) (n int, err error) {
	err = c.h.update(func(tx *bolt.Tx) error {
		for _, name := range epochs(tx) {
			e := s.span(name)
			if e == nil {
				if err := tx.DeleteBucket(epochBucket(name)); err != nil {
					return err
				}
				continue
			}
			bucket := tx.Bucket(epochBucket(name))
			var gone []uint64
			cursor := bucket.Cursor()
			for k, _ := cursor.First(); k != nil && seqOf(k) <= e.Acknowledged; k, _ = cursor.Next() {
				gone = append(gone, seqOf(k))
			}
			n += len(gone)
			if err := remove(bucket, gone); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// epochs gives the epochs that a file holds.
func epochs(tx *bolt.Tx) []string {
	var all []string
	c := tx.Cursor()
	for name, _ := c.Seek(epochPrefix); len(name) > len(epochPrefix) && string(name[:len(epochPrefix)]) == string(epochPrefix); name, _ = c.Next() {
		all = append(all, string(name[len(epochPrefix):]))
	}
	return all
}

// finish ends a copy: the file changes, or everything stays as it was. An error
// means that the store has to be opened again.
func (w *writer) finish(c *copying) error {
	began := time.Now()
	w.copied = nil
	err := c.err
	if err == nil && w.disturbed {
		err = errDisturbed
	}
	if err == nil {
		err = w.complete(c)
	}
	if c.h != nil {
		err = errors.Join(err, c.h.close())
	}
	var fatal error
	if err == nil {
		if fatal = w.replace(); fatal != nil {
			err = fatal
		}
	}
	if err != nil {
		w.notBefore = time.Now().Add(compactAgain)
		if e := os.Remove(w.o.opts.Path + compactName); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		if w.failed != err.Error() { // every few seconds while the folder is away
			w.o.opts.Log.Warn("store not compacted", "stream", w.o.opts.Stream, "err", err)
		}
		w.failed = err.Error()
		err = fmt.Errorf("compact %s: %w", w.o.opts.Path, err)
	} else {
		w.failed = ""
		w.o.note(func(s *Status) {
			s.Compactions++
			s.Pause = max(s.Pause, time.Since(began))
			s.FileBytes = w.fileBytes
		})
		w.o.opts.Log.Info("store compacted", "stream", w.o.opts.Stream, "pending", w.state.Pending, "bytes", w.fileBytes)
	}
	w.o.queue.Lock()
	wanted := w.o.wanted
	w.o.wanted = nil
	w.o.queue.Unlock()
	for _, done := range wanted {
		done <- err
	}
	return fatal
}

// complete copies what is left, the marks and the state, durably.
func (w *writer) complete(c *copying) error {
	if _, err := c.round(context.Background(), w.h); err != nil {
		return err
	}
	marks := []Mark{}
	err := w.h.view(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketMarks).ForEach(func(name, b []byte) error {
			value, err := markOf(tx, string(name))
			marks = append(marks, Mark{string(name), value})
			return err
		})
	})
	if err != nil {
		return err
	}
	next := w.state.clone()
	next.Opening++ // the new file counts its transactions anew
	next.Marks = 0
	c.h.db.NoSync = false
	err = c.h.update(func(tx *bolt.Tx) error {
		if err := next.layOut(tx); err != nil {
			return err
		}
		for _, m := range marks {
			if err := next.setMark(tx, m); err != nil {
				return err
			}
		}
		w.fileBytes = tx.Size()
		return next.save(tx)
	})
	if err == nil {
		w.state = next
	}
	return err
}

// replace puts the copy in the place of the store and opens it. A file that
// somebody put there meanwhile is set aside.
func (w *writer) replace() error {
	o := w.o
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handle = nil
	old, strange := w.h, !w.named() && exists(o.opts.Path)
	if runtime.GOOS == "windows" { // which renames nothing that is open
		if err := old.close(); err != nil {
			return err
		}
	}
	if strange {
		if err := os.Rename(o.opts.Path, aside(o.opts.Path, time.Now().UTC())); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Rename(o.opts.Path+compactName, o.opts.Path), syncDir(filepath.Dir(o.opts.Path))); err != nil {
		return err
	}
	h, err := openFile(o.opts.Path, w.limit())
	if err != nil {
		return err
	}
	w.h, o.handle = h, h
	w.closing.Go(func() { // to free a large file takes its time
		if err := old.close(); err != nil {
			o.opts.Log.Warn("old store not closed", "stream", o.opts.Stream, "err", err)
		}
	})
	return nil
}
