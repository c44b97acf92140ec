package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Damage tells of a file that was set aside, and what became of its contents. It
// lies beside that file, as JSON.
type Damage struct {
	At     time.Time `json:"at"`
	File   string    `json:"file"`   // where the damaged file lies now
	Cause  string    `json:"cause"`  // what was wrong with it
	Epoch  string    `json:"epoch"`  // the new one
	Before string    `json:"before"` // the one that ended, "" if not known
	Saved  uint64    `json:"saved"`  // records taken over
	Lost   uint64    `json:"lost"`   // records known to be lost
	Open   bool      `json:"open"`   // and perhaps more, of which nothing is known
	Gaps   []Gap     `json:"gaps"`   // where those that are known to be lost were
	Marks  bool      `json:"marks"`  // the marks were taken over, all of them
}

const (
	damagedInfix = ".damaged-"
	salvageName  = ".salvage"  // being filled
	salvagedName = ".salvaged" // whole, to take the place of the store
	compactName  = ".compact"  // being filled
	keptDamaged  = 3           // damaged files that are kept, the newest
)

// salvage sets the file at path aside and puts a new one in its place, with what
// can be read of the old.
func salvage(path string, o Options, refused *refusal, why error) (Damage, error) {
	d, err := rebuild(path, path+salvageName, o, refused)
	d.Cause = why.Error()
	if err != nil {
		return d, fmt.Errorf("salvage %s: %w", path, err)
	}
	d.File = aside(path, d.At)
	report, err := json.MarshalIndent(d, "", "  ")
	if err == nil {
		err = writeFile(d.File+".json", append(report, '\n'))
	}
	// A power cut between the two renames leaves the whole new store, see settle.
	if err == nil {
		err = errors.Join(os.Rename(path+salvageName, path+salvagedName), syncDir(filepath.Dir(path)))
	}
	if err == nil {
		err = errors.Join(os.Rename(path, d.File), os.Rename(path+salvagedName, path), syncDir(filepath.Dir(path)))
	}
	if err != nil {
		return d, fmt.Errorf("salvage %s: %w", path, err)
	}
	return d, nil
}

// settle ends what a power cut interrupted: a store that was salvaged takes its
// place, one that was being written goes.
func settle(path string) error {
	for _, name := range []string{salvageName, compactName} {
		if err := os.Remove(path + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if !exists(path + salvagedName) {
		return nil
	}
	if exists(path) {
		return os.Remove(path + salvagedName) // the damaged one still stands there: once more
	}
	return errors.Join(os.Rename(path+salvagedName, path), syncDir(filepath.Dir(path)))
}

// aside gives the name under which a damaged file is kept.
func aside(path string, at time.Time) string {
	name := path + damagedInfix + at.Format("20060102T150405")
	for n := 2; exists(name); n++ {
		name = fmt.Sprintf("%s%s%s-%d", path, damagedInfix, at.Format("20060102T150405"), n)
	}
	return name
}

// damages gives what was set aside beside the store at path and still lies
// there, oldest first.
func damages(path string) []Damage {
	reports, err := filepath.Glob(path + damagedInfix + "*.json")
	if err != nil {
		return nil // the name is our own
	}
	slices.Sort(reports)
	var all []Damage
	for _, name := range reports {
		text, err := os.ReadFile(name)
		d := Damage{}
		if err != nil || json.Unmarshal(text, &d) != nil || !exists(strings.TrimSuffix(name, ".json")) {
			continue
		}
		d.File = strings.TrimSuffix(name, ".json")
		all = append(all, d)
	}
	return all
}

// Unreported gives what else was set aside beside the store at path, such as a
// strange file or a folder that was found in its place: nothing was taken out of
// it, and it is never removed.
func Unreported(path string) []string {
	all, err := filepath.Glob(path + damagedInfix + "*")
	if err != nil {
		return nil // the name is our own
	}
	known := damages(path)
	return slices.DeleteFunc(all, func(name string) bool {
		return strings.HasSuffix(name, ".json") || strings.HasSuffix(name, lockName) ||
			slices.ContainsFunc(known, func(d Damage) bool { return d.File == name })
	})
}

// prune removes all but the newest damaged files, so that a rotten disk is not
// filled with them. What could be read of them is in the store.
func prune(all []Damage, keep int) []Damage {
	for len(all) > keep {
		if err := errors.Join(os.Remove(all[0].File), os.Remove(all[0].File+".json")); err != nil {
			break // the next salvage tries again
		}
		all = all[1:]
	}
	return all
}

// rebuild writes a new store to target with what can be read of the one at path,
// but for what was refused.
func rebuild(path, target string, o Options, refused *refusal) (d Damage, err error) {
	d.At = time.Now().UTC().Truncate(time.Second)
	p, f, err := openPages(path)
	if err != nil {
		return d, err
	}
	defer f.Close()
	c := scan(p)
	if c.state != nil && c.state.Stream != o.Stream {
		return d, fmt.Errorf("%w: it holds %q, not %q", errWrongStream, c.state.Stream, o.Stream)
	}
	c.forget(refused)
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	h, err := openFile(target, 0)
	if err != nil {
		return d, err
	}
	h.db.NoSync = true // once, at the end
	r := rebuilder{c: c, h: h, d: &d, o: o}
	err = r.run()
	err = errors.Join(err, guard(h.db.Sync), h.close())
	return d, err
}

// rebuilder fills a new store.
type rebuilder struct {
	c *contents
	h *handle
	d *Damage
	o Options
	s state
}

func (r *rebuilder) run() error {
	c, d := r.c, r.d
	old := c.spans()
	r.s = state{Stream: r.o.Stream, Dropped: map[string]uint64{}}
	if c.state != nil {
		r.s = c.state.clone()
	}
	r.s.Opening++
	r.s.Pending, r.s.PendingBytes, r.s.Gaps, r.s.Marks = 0, 0, 0, 0
	d.Open, d.Gaps = !c.sure, []Gap{}
	ended := Gap{From: 1, Open: d.Open, Reason: ReasonSalvage}
	if n := len(old); n > 0 {
		ended.Epoch, ended.From, ended.To = old[n-1].Epoch, old[n-1].Last+1, old[n-1].Last
	}
	r.s.Epochs = slices.DeleteFunc(old, func(e span) bool { return e.Acknowledged >= e.Last })
	if err := r.h.update(r.s.layOut); err != nil {
		return err
	}
	for _, e := range r.s.Epochs {
		if err := r.epoch(e); err != nil {
			return err
		}
	}
	if c.sure {
		d.Lost = c.state.Pending - min(c.state.Pending, d.Saved)
	} else {
		for _, g := range d.Gaps {
			d.Lost += g.Count
		}
	}
	if d.Lost > 0 {
		r.s.Dropped[ReasonCorruption] += d.Lost
	}
	r.balance()
	return r.begin(ended)
}

// begin begins the new epoch. It comes last, so that a disk that does not take
// the rest uses up none.
func (r *rebuilder) begin(ended Gap) error {
	epoch, before, err := r.o.NewEpoch(ended.Epoch)
	if err != nil {
		return fmt.Errorf("begin an epoch: %w", err)
	}
	if ended.Epoch == "" {
		ended.Epoch = before
	}
	r.d.Epoch, r.d.Before = epoch, ended.Epoch
	return r.h.update(func(tx *bolt.Tx) error {
		if err := r.s.beginEpoch(tx, epoch, ended); err != nil {
			return err
		}
		if err := r.marks(tx); err != nil {
			return err
		}
		return r.s.save(tx)
	})
}

// balance makes the books fit what was found, where the state that kept them is
// not the latest.
func (r *rebuilder) balance() {
	if r.c.sure {
		return
	}
	r.s.Accepted = r.s.AckedCount + r.s.Pending
	for _, n := range r.s.Dropped {
		r.s.Accepted += n
	}
}

// epoch takes over the records of one, with a gap wherever some are missing.
func (r *rebuilder) epoch(e span) error {
	all, next := r.c.epochs[e.Epoch], e.Acknowledged+1
	all = slices.DeleteFunc(slices.Clone(all), func(f found) bool { return !e.holds(f) })
	name := epochBucket(e.Epoch)
	for done := false; !done; {
		err := r.h.update(func(tx *bolt.Tx) error {
			bucket := tx.Bucket(name)
			bucket.FillPercent = 1
			for n := 0; n < perTransaction && len(all) > 0; n++ {
				if err := r.take(bucket, e, all[0], &next); err != nil {
					return err
				}
				all = all[1:]
			}
			if done = len(all) == 0; done && next <= e.Last {
				return r.hole(bucket, e, next, e.Last)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// take puts a record that was found in its place, and a gap before it if some
// are missing.
func (r *rebuilder) take(bucket *bolt.Bucket, e span, f found, next *uint64) error {
	b, err := r.c.read(f)
	if err != nil {
		return nil // it could be read a moment ago: now it is part of the next gap
	}
	if _, err := decode(e.Epoch, key(f.seq), b); err != nil || f.seq < *next {
		return nil
	}
	if f.from > *next {
		if err := r.hole(bucket, e, *next, f.from-1); err != nil {
			return err
		}
	}
	*next = f.seq + 1
	if f.gap {
		r.s.Gaps++
	} else {
		r.d.Saved++
		r.s.Pending++
		r.s.PendingBytes += size(b)
	}
	return bucket.Put(key(f.seq), b)
}

// hole tells of records that are lost; those that had been dropped before are
// so for another reason.
func (r *rebuilder) hole(bucket *bolt.Bucket, e span, from, to uint64) error {
	if from <= e.Shed {
		end := min(to, e.Shed)
		if err := r.gap(bucket, Gap{Epoch: e.Epoch, From: from, To: end, Count: end - from + 1, Reason: ReasonSize}); err != nil {
			return err
		}
		from = end + 1
	}
	if from > to {
		return nil
	}
	g := Gap{Epoch: e.Epoch, From: from, To: to, Count: to - from + 1, Reason: ReasonCorruption}
	r.d.Gaps = append(r.d.Gaps, g)
	return r.gap(bucket, g)
}

func (r *rebuilder) gap(bucket *bolt.Bucket, g Gap) error {
	r.s.Gaps++
	return put(bucket, epochBucket(g.Epoch), r.s.Opening, g.To, encodeGap(g))
}

// marks takes over all marks or, if one of them may not be the latest, none.
func (r *rebuilder) marks(tx *bolt.Tx) error {
	if r.d.Marks = r.c.marksSound(); !r.d.Marks {
		return nil
	}
	if r.c.refused != nil {
		maps.Copy(r.c.marks, r.c.refused.marks)
	}
	for name, b := range r.c.marks {
		if b == nil {
			continue // there was none before the refused one
		}
		if err := r.s.setMark(tx, Mark{name, b[headerSize:]}); err != nil {
			return err
		}
	}
	return nil
}
