package outbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	bolt "go.etcd.io/bbolt"
)

// Verdict is what Verify found.
type Verdict struct {
	Path     string   `json:"path"`
	Stream   string   `json:"stream,omitempty"`
	Epochs   []Epoch  `json:"epochs"`
	Records  uint64   `json:"records"` // whole ones that wait
	Gaps     uint64   `json:"gaps"`
	Marks    int      `json:"marks"`
	Pages    uint64   `json:"pages"`
	Free     int      `json:"free"`     // of Pages
	Problems []string `json:"problems"` // none: the file is whole
}

// Epoch is what a file holds of an epoch: the sequences after Acknowledged up to
// Last.
type Epoch struct {
	Epoch        string `json:"epoch"`
	Acknowledged uint64 `json:"acknowledged"`
	Last         uint64 `json:"last"`
}

// mostProblems are named one by one.
const mostProblems = 100

// Verify reads a whole store, which no process may have open, and tells what is
// wrong with it: pages, free list, checksums of all records and marks, missing
// records, and the books. It changes nothing.
func Verify(path string) (Verdict, error) {
	v := Verdict{Path: path, Epochs: []Epoch{}, Problems: []string{}}
	p, done, err := openToRead(path)
	if err != nil {
		return v, fmt.Errorf("verify %s: %w", path, err)
	}
	defer done()
	c := newChecker(p, true)
	c.verdict = &v
	if err := c.run(); err != nil {
		c.problem(err)
	}
	return v, nil
}

// Verify looks through the whole store as the function does, while it is in use.
// Until it is through, the file cannot be compacted and grows only within what
// is mapped already: for a large one, those who append may wait for a second.
func (o *Outbox) Verify() (v Verdict, err error) {
	for range 10 { // the head may be written between the two steps of a look
		v = Verdict{Path: o.opts.Path, Epochs: []Epoch{}, Problems: []string{}}
		err = o.view(func(tx *bolt.Tx) error { // which keeps the pages of this moment from being used again
			p, f, err := openPages(o.opts.Path)
			if err != nil {
				return err
			}
			defer f.Close()
			c := newChecker(p, true)
			c.verdict, c.at = &v, uint64(tx.ID())
			if err := c.run(); err != nil && !errors.Is(err, errMoved) {
				return c.problem(err)
			} else {
				return err
			}
		})
		if !errors.Is(err, errMoved) {
			break
		}
	}
	return v, err
}

// sound tells whether the file at path may be given to bbolt: its heads, its
// root, its branches and the free list hang together. That reads one page in a
// hundred; thorough reads them all, with their checksums.
func sound(path string, thorough bool) error {
	p, f, err := openPages(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() == 0 {
		return nil // a new file
	}
	return newChecker(p, thorough).run()
}

// errMoved says that the store was written before its head was read.
var errMoved = errors.New("store was written meanwhile")

// checker walks all that can be reached from the newest head.
type checker struct {
	p        *pages
	at       uint64 // the transaction to look at, 0 for the newest
	thorough bool
	verdict  *Verdict // nil: the first problem ends the walk

	reached []bool // by page
	state   state
	sum     uint32 // of the marks
	pending uint64
	gaps    uint64
	bytes   int64
}

func newChecker(p *pages, thorough bool) *checker {
	return &checker{p: p, thorough: thorough, reached: make([]bool, p.count)}
}

// problem notes what is wrong, or gives it back to end the walk.
func (c *checker) problem(err error) error {
	if c.verdict == nil {
		return err
	}
	if len(c.verdict.Problems) < mostProblems {
		c.verdict.Problems = append(c.verdict.Problems, err.Error())
	}
	return nil
}

func (c *checker) run() error {
	m, whole := c.p.meta()
	if c.at != 0 && c.at != m.tx {
		return errMoved
	}
	switch {
	case whole == 0:
		return fmt.Errorf("%w: it has no head", errPages)
	case m.end > c.p.count:
		return fmt.Errorf("%w: it was cut to %d of %d pages", errPages, c.p.count, m.end)
	case whole == 1:
		if err := c.problem(fmt.Errorf("%w: one of its heads is gone, the last commit perhaps with it", errPages)); err != nil {
			return err
		}
	}
	c.reached[0], c.reached[1] = true, true
	root, err := c.p.page(m.root)
	if err != nil {
		return err
	}
	if err := c.buckets(m, root); err != nil {
		return err
	}
	return c.free(m)
}

// buckets looks at everything below the root: the state first.
func (c *checker) buckets(m meta, root page) error {
	if root.flags != leafPage {
		return fmt.Errorf("%w: its root is no leaf", errPages)
	}
	if err := c.reach(root); err != nil {
		return err
	}
	found := map[string]leaf{}
	for l, ok := range root.leaves() {
		if !ok || !l.bucket {
			return fmt.Errorf("%w: its root holds what is no bucket", errPages)
		}
		found[string(l.key)] = l
	}
	if len(found) == 0 && m.tx < firstTransaction {
		return nil // nobody has written yet
	}
	err := c.bucket(found[string(bucketState)], true, func(l leaf) (err error) {
		c.state, err = decodeState(l.value)
		return err
	})
	if err != nil {
		return err
	}
	if len(c.state.Epochs) == 0 {
		return fmt.Errorf("%w: it is missing", errBadState)
	}
	if c.verdict != nil {
		c.verdict.Stream = c.state.Stream
	}
	err = c.bucket(found[string(bucketMarks)], true, func(l leaf) error {
		if !intact(l.value, bucketMarks, l.key) {
			return c.problem(fmt.Errorf("%w: mark %q is damaged", errBadState, l.key))
		}
		c.sum ^= sumOf(l.value)
		if c.verdict != nil {
			c.verdict.Marks++
		}
		return nil
	})
	if err == nil && c.sum != c.state.Marks {
		err = c.problem(fmt.Errorf("%w: a mark is not the latest", errBadState))
	}
	for _, e := range c.state.Epochs {
		if err == nil {
			err = c.epoch(e, found[string(epochBucket(e.Epoch))])
		}
	}
	if err != nil || !c.thorough {
		return err
	}
	s := c.state
	bytesFit := s.PendingBytes == c.bytes || s.Dropped[ReasonCorruption] > 0 // how long damaged records were is not known
	if s.Pending != c.pending || s.Gaps != c.gaps || !bytesFit {
		err = c.problem(fmt.Errorf("%w: its books say %d records of %d bytes and %d gaps, the file holds %d of %d and %d",
			errBadState, s.Pending, s.PendingBytes, s.Gaps, c.pending, c.bytes, c.gaps))
	}
	return err
}

// epoch looks at the records of one, and whether one follows the other.
func (c *checker) epoch(e span, l leaf) error {
	if c.verdict != nil {
		c.verdict.Epochs = append(c.verdict.Epochs, Epoch{e.Epoch, e.Acknowledged, e.Last})
	}
	if l.key == nil {
		return c.problem(fmt.Errorf("%w: epoch %s", errHole, e.Epoch))
	}
	seen := e.Acknowledged
	err := c.bucket(l, c.thorough, func(l leaf) error {
		if !c.thorough {
			return nil
		}
		r, err := decode(e.Epoch, l.key, l.value)
		if err != nil {
			return c.problem(fmt.Errorf("%s/%d: %w", e.Epoch, seqOf(l.key), err))
		}
		from := r.Seq
		switch {
		case r.Gap == nil:
			c.pending++
			c.bytes += size(l.value)
		default:
			c.gaps++
			if r.Gap.Epoch == e.Epoch {
				from = r.Gap.From
			}
		}
		if from > seen+1 || r.Seq <= seen {
			err = c.problem(fmt.Errorf("%w: after %s/%d comes %d", errHole, e.Epoch, seen, from))
		}
		seen = r.Seq
		return err
	})
	if err == nil && c.thorough && seen != e.Last {
		err = c.problem(fmt.Errorf("%w: %s ends with %d, not with %d", errHole, e.Epoch, seen, e.Last))
	}
	if c.verdict != nil {
		c.verdict.Records, c.verdict.Gaps = c.pending, c.gaps
	}
	return err
}

// bucket calls visit for each element of a bucket; without all only for those of
// the first and the last leaf of each branch.
func (c *checker) bucket(l leaf, all bool, visit func(leaf) error) error {
	if l.key == nil {
		return fmt.Errorf("%w: a bucket is missing", errBadState)
	}
	id, inline, err := l.root()
	if err != nil {
		return err
	}
	if id == 0 {
		return c.leaf(inline, visit)
	}
	return c.tree(id, nil, 0, all, visit)
}

// deepest tree that is believed; three levels hold a gigabyte.
const deepest = 16

// tree walks a page and what is below it. Its first key is not below least.
func (c *checker) tree(id uint64, least []byte, depth int, all bool, visit func(leaf) error) error {
	if depth > deepest {
		return fmt.Errorf("%w: page %d leads back to itself", errPages, id)
	}
	g, err := c.p.page(id)
	if err == nil {
		err = c.reach(g)
	}
	if err != nil {
		return err
	}
	switch g.flags {
	case leafPage:
		return c.leaf(g, visit)
	case branchPage:
	default:
		return fmt.Errorf("%w: page %d is neither branch nor leaf", errPages, id)
	}
	below, err := g.branches()
	if err != nil {
		return err
	}
	lowest := false // the level below is that of the leaves
	for i, b := range below {
		if bytes.Compare(b.key, least) < 0 || i > 0 && bytes.Compare(below[i-1].key, b.key) >= 0 {
			return fmt.Errorf("%w: page %d is not in order", errPages, id)
		}
		if !all && lowest && i < len(below)-1 {
			if err := c.reach(page{id: b.id}); err != nil {
				return err
			}
			continue
		}
		if err := c.tree(b.id, b.key, depth+1, all, visit); err != nil {
			if err = c.problem(err); err != nil {
				return err
			}
		}
		if i == 0 {
			first, err := c.p.page(b.id)
			lowest = err == nil && first.flags == leafPage
		}
	}
	return nil
}

func (c *checker) leaf(g page, visit func(leaf) error) error {
	if g.flags != leafPage {
		return fmt.Errorf("%w: a bucket's page is no leaf", errPages)
	}
	var before []byte
	for l, ok := range g.leaves() {
		if !ok || before != nil && bytes.Compare(before, l.key) >= 0 {
			return fmt.Errorf("%w: the elements of page %d are not in order", errPages, g.id)
		}
		before = l.key
		if err := visit(l); err != nil {
			return err
		}
	}
	return nil
}

// reach notes that a page is in use, once.
func (c *checker) reach(g page) error {
	if g.id < 2 || g.id+g.more >= c.p.count {
		return fmt.Errorf("%w: page %d is not there", errPages, g.id)
	}
	for id := g.id; id <= g.id+g.more; id++ {
		if c.reached[id] {
			return fmt.Errorf("%w: page %d is used twice", errPages, id)
		}
		c.reached[id] = true
	}
	return nil
}

// free looks at the free list: a page in use that is in it would be overwritten.
func (c *checker) free(m meta) error {
	ids, err := c.p.free(m.freelist)
	if err != nil {
		return err
	}
	if m.freelist != noFreelist {
		g, err := c.p.page(m.freelist)
		if err == nil {
			err = c.reach(g)
		}
		if err != nil {
			return err
		}
	}
	for _, id := range ids {
		if id < 2 || id >= m.end {
			return fmt.Errorf("%w: the free list names page %d", errPages, id)
		}
		if c.reached[id] {
			return fmt.Errorf("%w: page %d is in use and in the free list", errPages, id)
		}
		c.reached[id] = true
	}
	if c.verdict != nil {
		c.verdict.Pages, c.verdict.Free = m.end, len(ids)
	}
	return nil
}

// isDamage tells errors that say that a file cannot be trusted from those of a
// disk that does not work just now.
func isDamage(err error) bool {
	code, _ := cause(err)
	return err != nil && code == codeDamaged
}

// seqOf a record's key, for messages.
func seqOf(key []byte) uint64 {
	if len(key) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(key)
}

// exists tells whether there is a file at path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
