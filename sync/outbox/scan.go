package outbox

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// contents is what can be read of a damaged file. Every page is looked at, in use
// or not: a root or a branch that is gone hides nothing then. What a page says is
// believed if the checksum of the value fits its key and its bucket.
type contents struct {
	p       *pages
	state   *state // the latest; nil if none can be read
	sure    bool   // no later one can have been on the disk
	epochs  map[string][]found
	marks   map[string][]byte // sealed
	written map[string]order  // of marks
	as      order             // of state
	refused *refusal          // what is left out
}

// found is a record in the file.
type found struct {
	seq     uint64
	from    uint64 // seq, or the first that a gap stands for
	gap     bool
	opening uint32
	size    uint32
	at      int64
}

// holds tells whether a record that was found is one of those that wait: what was
// acknowledged, or dropped for size, may still lie in a free page.
func (e span) holds(f found) bool {
	return f.seq > e.Acknowledged && f.seq <= e.Last && (f.seq > e.Shed || f.gap)
}

// order of two versions of one thing.
type order struct {
	opening uint32
	stamp   uint64
}

func orderOf(b []byte) order { return order{openingOf(b), stampOf(b)} }

func (a order) compare(b order) int {
	return cmp.Or(cmp.Compare(a.opening, b.opening), cmp.Compare(a.stamp, b.stamp))
}

// scan reads a file twice: for the state and the names of the epochs, then for
// what belongs to them.
func scan(p *pages) *contents {
	c := &contents{p: p, epochs: map[string][]found{}, marks: map[string][]byte{}, written: map[string]order{}}
	c.leaves(func(l leaf, _ int64) {
		name, isEpoch := strings.CutPrefix(string(l.key), string(epochPrefix))
		switch {
		case l.bucket && isEpoch && len(name) < 64:
			c.epochs[name] = nil
		case !l.bucket && len(l.value) >= headerSize && kindOf(l.value) == kindState:
			s, err := decodeState(l.value)
			if by := orderOf(l.value); err == nil && (c.state == nil || by.compare(c.as) > 0) {
				c.state, c.as = &s, by
			}
		}
	})
	if c.state != nil {
		for _, e := range c.state.Epochs {
			c.epochs[e.Epoch] = nil
		}
		c.sure = c.newest()
	}
	c.leaves(func(l leaf, at int64) {
		if l.bucket || len(l.value) < headerSize {
			return
		}
		switch kindOf(l.value) {
		case kindValue, kindGap:
			for name := range c.epochs {
				r, err := decode(name, l.key, l.value)
				if err != nil {
					continue
				}
				f := found{seq: r.Seq, from: r.Seq, gap: r.Gap != nil, opening: openingOf(l.value), size: uint32(len(l.value)), at: at}
				if f.gap && r.Gap.Epoch == name {
					f.from = r.Gap.From
				}
				c.epochs[name] = append(c.epochs[name], f)
			}
		case kindMark:
			name, by := string(l.key), orderOf(l.value)
			if intact(l.value, bucketMarks, l.key) && (c.marks[name] == nil || by.compare(c.written[name]) > 0) {
				c.marks[name], c.written[name] = slices.Clone(l.value), by
			}
		}
	})
	for name, all := range c.epochs {
		c.epochs[name] = latest(all)
	}
	return c
}

// latest puts records in order and drops what was replaced by others: a gap
// replaces what it stands for, a later opening what an earlier one left.
func latest(all []found) []found {
	gapsFirst := func(f found) int {
		if f.gap {
			return 0
		}
		return 1
	}
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(cmp.Compare(b.seq, a.seq), cmp.Compare(gapsFirst(a), gapsFirst(b)), cmp.Compare(a.from, b.from),
			cmp.Compare(b.opening, a.opening), cmp.Compare(b.at, a.at))
	})
	kept := all[:0]
	for _, f := range all {
		if len(kept) == 0 || f.seq < kept[len(kept)-1].from {
			kept = append(kept, f)
		}
	}
	slices.Reverse(kept)
	return kept
}

// newest tells whether the state that was found is the last one that was
// committed: the head of the file that was written last says which transaction
// that was. Where that head is gone, it must be the one after the other's.
func (c *contents) newest() bool {
	m, whole := c.p.meta()
	if whole == 2 {
		return c.as.stamp >= m.tx
	}
	return whole == 1 && c.as.stamp > m.tx
}

// leaves calls visit for each element of each page that looks like a leaf, and
// of the pages inside them; at is where the value lies in the file.
func (c *contents) leaves(visit func(l leaf, at int64)) {
	for id := range c.p.count {
		g, err := c.p.page(id)
		if err != nil || g.flags != leafPage {
			continue
		}
		base := int64(id) * int64(c.p.size)
		for l, ok := range g.leaves() {
			if !ok {
				continue
			}
			visit(l, base+int64(l.at))
			if !l.bucket {
				continue
			}
			root, inline, err := l.root()
			if err != nil || root != 0 || inline.flags != leafPage {
				continue
			}
			inside := base + int64(l.at) + 16
			for l, ok := range inline.leaves() {
				if ok {
					visit(l, inside+int64(l.at))
				}
			}
		}
	}
}

// read gives the bytes of a record that was found.
func (c *contents) read(f found) ([]byte, error) {
	b := make([]byte, f.size)
	_, err := c.p.r.ReadAt(b, f.at)
	return b, err
}

// spans gives the epochs that are to be taken over, oldest first: as the state
// says, or where it cannot be had, as the records do.
func (c *contents) spans() []span {
	var spans []span
	if c.state != nil {
		spans = slices.Clone(c.state.Epochs)
	} else {
		for _, name := range slices.Sorted(maps.Keys(c.epochs)) {
			e := span{Epoch: name}
			if all := c.epochs[name]; len(all) > 0 {
				e.Acknowledged = all[0].seq - 1
			}
			spans = append(spans, e)
		}
	}
	for i := range spans {
		e := &spans[i]
		if all := c.epochs[e.Epoch]; len(all) > 0 && !c.sure {
			e.Last = max(e.Last, all[len(all)-1].seq)
		}
		if c.refused != nil && c.refused.last.Epoch == e.Epoch {
			e.Last = min(e.Last, c.refused.last.Seq)
		}
	}
	return spans
}

// marksSound tells whether the marks are those that the state knows; a mark that
// is not the latest would count once more what records tell already.
func (c *contents) marksSound() bool {
	sum := uint32(0)
	for _, b := range c.marks {
		sum ^= sumOf(b)
	}
	return c.sure && sum == c.state.Marks
}
