package outbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// perTransaction bounds the records that one transaction deletes, so that a
// large acknowledgement does not hold up those who append.
const perTransaction = 4096

// errHole says that records are missing where the state knows of some.
var errHole = errors.New("records are missing")

// put seals a record and writes it.
func put(bucket *bolt.Bucket, name []byte, opening uint32, seq uint64, b []byte) error {
	k := key(seq)
	seal(b, opening, name, k)
	return bucket.Put(k, b)
}

// appendTo writes the entries of a batch and gives them their sequences. What
// the marks were before goes to before.
func (s *state) appendTo(tx *bolt.Tx, entries []entry, before map[string][]byte) error {
	e := s.current()
	name := epochBucket(e.Epoch)
	records := tx.Bucket(name)
	records.FillPercent = 1 // keys only grow: a full page is never split again
	keys := make([]byte, 8*len(entries))
	for i := range entries {
		in := &entries[i]
		if in.value != nil {
			e.Last++
			k := keys[8*i : 8*i+8]
			binary.BigEndian.PutUint64(k, e.Last)
			sealOver(in.sum, in.value, s.Opening, name, k) // perhaps once more, after there was no room
			if err := records.Put(k, in.value); err != nil {
				return err
			}
			in.seq = e.Last
			s.Accepted++
			s.Pending++
			s.PendingBytes += size(in.value)
		}
		for _, m := range in.marks {
			if _, known := before[m.Name]; !known {
				before[m.Name] = bytes.Clone(tx.Bucket(bucketMarks).Get([]byte(m.Name)))
			}
			if err := s.setMark(tx, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// leave takes a stored record out of the books and tells whether it was a value. A
// damaged one is believed to be of the kind it says.
func (s *state) leave(b []byte) (value bool) {
	if len(b) >= headerSize && kindOf(b) == kindGap {
		s.Gaps -= min(s.Gaps, 1)
		return false
	}
	if s.Pending == 0 {
		return false
	}
	s.Pending--
	s.PendingBytes = max(0, s.PendingBytes-size(b))
	return true
}

// size of a stored record as MaxSize counts it.
func size(b []byte) int64 { return int64(len(b) + 8) }

// shed drops the oldest records, at most perTransaction, while more than
// maxSize bytes are pending, and leaves a gap in their place. The newest record
// stays. more says that there is more to drop.
func (s *state) shed(tx *bolt.Tx, maxSize int64) (more bool, err error) {
	over := func() bool { return s.over(maxSize) }
	budget := perTransaction
	for _, e := range s.Epochs {
		if !over() || budget == 0 {
			break
		}
		if err := s.shedEpoch(tx, s.span(e.Epoch), over, &budget); err != nil {
			return false, err
		}
	}
	return over() && budget < perTransaction, nil
}

func (s *state) shedEpoch(tx *bolt.Tx, e *span, over func() bool, budget *int) error {
	epoch, name := e.Epoch, epochBucket(e.Epoch)
	bucket := tx.Bucket(name)
	var gone []uint64 // deleted once the cursor rests
	var gaps []Gap
	joins := false // the last of gaps goes on with what comes next
	c := bucket.Cursor()
	for k, v := c.First(); k != nil && over() && *budget > 0; k, v = c.Next() {
		seq := binary.BigEndian.Uint64(k)
		r, err := decode(epoch, k, v)
		switch {
		case err == nil && r.Gap != nil && r.Gap.Reason != ReasonSize:
			joins = false
			continue
		case err == nil && r.Gap != nil:
			gaps, joins = append(gaps, *r.Gap), true
			s.Gaps--
		default:
			if !joins {
				gaps, joins = append(gaps, Gap{Epoch: epoch, From: seq, Reason: ReasonSize}), true
			}
			last := &gaps[len(gaps)-1]
			last.To, last.Count = seq, last.Count+1
			if s.leave(v) {
				s.Dropped[ReasonSize]++
			}
			e.Shed = seq
			*budget--
		}
		gone = append(gone, seq)
	}
	if err := remove(bucket, gone); err != nil {
		return err
	}
	for _, g := range gaps {
		s.Gaps++
		if err := put(bucket, name, s.Opening, g.To, encodeGap(g)); err != nil {
			return err
		}
	}
	return nil
}

// acknowledge deletes up to p, at most perTransaction records, and tells
// whether it is through.
func (s *state) acknowledge(tx *bolt.Tx, p Position) (through bool, err error) {
	e := s.span(p.Epoch)
	if e == nil || p.Seq > e.Last {
		return false, fmt.Errorf("acknowledge %s/%d: %w", p.Epoch, p.Seq, ErrNoRecord)
	}
	bucket := tx.Bucket(epochBucket(p.Epoch))
	gone := make([]uint64, 0, 64)
	c := bucket.Cursor()
	k, v := c.First()
	for ; k != nil && binary.BigEndian.Uint64(k) <= p.Seq && len(gone) < perTransaction; k, v = c.Next() {
		if s.leave(v) {
			s.AckedCount++
		}
		gone = append(gone, binary.BigEndian.Uint64(k))
	}
	through = k == nil || binary.BigEndian.Uint64(k) > p.Seq
	if err := remove(bucket, gone); err != nil {
		return false, err
	}
	if s.Pending == 0 {
		s.PendingBytes = 0 // damaged records may have been longer than they seemed
	}
	reached := p.Seq
	if !through {
		reached = gone[len(gone)-1]
	}
	e.Acknowledged = max(e.Acknowledged, reached)
	if e.Acknowledged == e.Last && e != s.current() {
		s.Epochs = slices.DeleteFunc(s.Epochs, func(d span) bool { return d.Epoch == p.Epoch })
		return true, tx.DeleteBucket(epochBucket(p.Epoch))
	}
	return through, nil
}

// remove deletes records of a bucket. A cursor may skip what follows a key that
// is deleted under it, so the keys are collected before.
func remove(bucket *bolt.Bucket, seqs []uint64) error {
	for _, seq := range seqs {
		if err := bucket.Delete(key(seq)); err != nil {
			return err
		}
	}
	return nil
}

// repair replaces the record at p, if it is damaged, by a gap, and joins that
// with the gap of the same reason right before it.
func (s *state) repair(tx *bolt.Tx, p Position) error {
	name := epochBucket(p.Epoch)
	bucket := tx.Bucket(name)
	if bucket == nil {
		return nil
	}
	b := bucket.Get(key(p.Seq))
	if b == nil {
		return nil
	}
	if _, err := decode(p.Epoch, key(p.Seq), b); err == nil {
		return nil
	}
	if s.leave(b) {
		s.Dropped[ReasonCorruption]++
	}
	s.Gaps++
	gap := Gap{Epoch: p.Epoch, From: p.Seq, To: p.Seq, Count: 1, Reason: ReasonCorruption}
	before := key(p.Seq - 1)
	if r, err := decode(p.Epoch, before, bucket.Get(before)); err == nil && r.Gap != nil && r.Gap.Reason == gap.Reason {
		gap.From, gap.Count = r.Gap.From, r.Gap.Count+1
		s.Gaps--
		if err := bucket.Delete(before); err != nil {
			return err
		}
	}
	return put(bucket, name, s.Opening, gap.To, encodeGap(gap))
}

// read gives the records after a position, see Outbox.Read. If the first of
// them is damaged it gives that one's position; if one is missing, errHole.
func (s *state) read(tx *bolt.Tx, after Position, most, mostBytes int) (records []Record, damaged *Position, err error) {
	for _, e := range s.Epochs {
		if e.Epoch < after.Epoch {
			continue
		}
		seen := e.Acknowledged
		if e.Epoch == after.Epoch {
			seen = max(seen, after.Seq)
		}
		if seen == math.MaxUint64 || seen >= e.Last {
			continue
		}
		records, damaged, err = e.read(tx, seen, most, mostBytes)
		if err != nil || damaged != nil || len(records) > 0 {
			return records, damaged, err
		}
	}
	return nil, nil, nil
}

// read gives the records of an epoch after the sequence seen, each the next of
// the one before it.
func (e span) read(tx *bolt.Tx, seen uint64, most, mostBytes int) (records []Record, damaged *Position, err error) {
	bucket := tx.Bucket(epochBucket(e.Epoch))
	if bucket == nil {
		return nil, nil, fmt.Errorf("%w: epoch %s", errHole, e.Epoch)
	}
	total := 0
	cursor := bucket.Cursor()
	for k, v := cursor.Seek(key(seen + 1)); len(records) < most && seen < e.Last; k, v = cursor.Next() {
		if len(k) != 8 {
			return nil, nil, fmt.Errorf("%w: after %s/%d", errHole, e.Epoch, seen)
		}
		seq := binary.BigEndian.Uint64(k)
		r, err := decode(e.Epoch, k, v)
		if err != nil && seq == seen+1 {
			if len(records) == 0 {
				damaged = &Position{e.Epoch, seq}
			}
			return records, damaged, nil
		}
		from := seq
		if r.Gap != nil && r.Gap.Epoch == e.Epoch {
			from = r.Gap.From
		}
		if err != nil || from > seen+1 || seq > e.Last {
			return nil, nil, fmt.Errorf("%w: after %s/%d comes %d", errHole, e.Epoch, seen, seq)
		}
		if total += len(r.Value); total > mostBytes && len(records) > 0 {
			break
		}
		r.Value = slices.Clone(r.Value)
		records = append(records, r)
		seen = seq
	}
	return records, nil, nil
}
