package outbox

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// The file has one bucket per epoch, one for the marks and one with a single
// value, the state. State and few marks are small enough for bbolt to keep them
// inside the root page, so a commit writes no page of its own for them.
var (
	bucketMarks = []byte("marks")
	bucketState = []byte("state")
	keyState    = []byte("state")
	epochPrefix = []byte("epoch/")
)

var (
	errWrongStream = errors.New("file of another stream")
	errBadState    = errors.New("state does not decode")
)

// perTransaction bounds the records that one transaction deletes, so that a
// large acknowledgement does not hold up those who append.
const perTransaction = 4096

// state is what the store knows of itself; written in each transaction.
type state struct {
	Stream       string            `json:"stream"`
	Epoch        string            `json:"epoch"`
	Last         uint64            `json:"last"`
	Acknowledged uint64            `json:"acknowledged"`
	Accepted     uint64            `json:"accepted"`
	AckedCount   uint64            `json:"acked_count"`
	Pending      uint64            `json:"pending"`
	PendingBytes int64             `json:"pending_bytes"`
	Gaps         uint64            `json:"gaps"`
	Dropped      map[string]uint64 `json:"dropped"`
}

func (s state) clone() state {
	s.Dropped = maps.Clone(s.Dropped)
	return s
}

func (s *state) save(tx *bolt.Tx) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketState).Put(keyState, b)
}

// stateOf reads the state of a store.
func stateOf(tx *bolt.Tx) (state, error) {
	s := state{Dropped: map[string]uint64{}}
	if err := json.Unmarshal(tx.Bucket(bucketState).Get(keyState), &s); err != nil {
		return s, fmt.Errorf("%w: %w", errBadState, err)
	}
	return s, nil
}

// load reads the state, or lays out a new store under the epoch that newEpoch
// gives. It writes in either case: only a store that takes a write is usable.
func load(h *handle, o Options) (state, error) {
	var s state
	err := h.update(func(tx *bolt.Tx) error {
		if tx.Bucket(bucketState) != nil {
			var err error
			if s, err = stateOf(tx); err != nil {
				return err
			}
			if s.Stream != o.Stream {
				return fmt.Errorf("%w: it holds %q, not %q", errWrongStream, s.Stream, o.Stream)
			}
			if tx.Bucket(epochBucket(s.Epoch)) == nil || tx.Bucket(bucketMarks) == nil {
				return fmt.Errorf("%w: a bucket is missing", errBadState)
			}
			return s.save(tx)
		}
		epoch, err := o.NewEpoch()
		if err != nil {
			return fmt.Errorf("begin an epoch: %w", err)
		}
		s = state{Stream: o.Stream, Epoch: epoch, Dropped: map[string]uint64{}}
		for _, name := range [][]byte{bucketState, bucketMarks, epochBucket(epoch)} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return s.save(tx)
	})
	return s, err
}

func epochBucket(epoch string) []byte { return append(slices.Clone(epochPrefix), epoch...) }

// appendTo writes the entries of a batch and gives them their sequences.
func (s *state) appendTo(tx *bolt.Tx, entries []entry) error {
	records, marks := tx.Bucket(epochBucket(s.Epoch)), tx.Bucket(bucketMarks)
	records.FillPercent = 1 // keys only grow: a full page is never split again
	keys := make([]byte, 8*len(entries))
	for i := range entries {
		e := &entries[i]
		if e.value != nil {
			s.Last++
			k := keys[8*i : 8*i+8]
			binary.BigEndian.PutUint64(k, s.Last)
			seal(k, e.value)
			if err := records.Put(k, e.value); err != nil {
				return err
			}
			e.seq = s.Last
			s.Accepted++
			s.Pending++
			s.PendingBytes += size(e.value)
		}
		for _, m := range e.marks {
			if err := marks.Put([]byte(m.Name), m.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// size of a stored record as MaxSize counts it.
func size(b []byte) int64 { return int64(len(b) + 8) }

// shed drops the oldest records, at most perTransaction, while more than
// maxSize bytes are pending, and leaves a gap in their place. The newest record
// stays. more says that there is more to drop.
func (s *state) shed(tx *bolt.Tx, maxSize int64) (more bool, err error) {
	over := func() bool { return maxSize > 0 && s.PendingBytes > maxSize && s.Pending > 1 }
	budget := perTransaction
	for _, epoch := range epochs(tx) {
		if !over() || budget == 0 {
			break
		}
		if err := s.shedEpoch(tx.Bucket(epochBucket(epoch)), epoch, over, &budget); err != nil {
			return false, err
		}
	}
	return over() && budget < perTransaction, nil
}

func (s *state) shedEpoch(bucket *bolt.Bucket, epoch string, over func() bool, budget *int) error {
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
			s.Pending--
			s.PendingBytes -= size(v)
			s.Dropped[ReasonSize]++
			*budget--
		}
		gone = append(gone, seq)
	}
	if err := remove(bucket, gone); err != nil {
		return err
	}
	for _, g := range gaps {
		s.Gaps++
		if err := bucket.Put(key(g.To), encodeGap(g)); err != nil {
			return err
		}
	}
	return nil
}

// acknowledge deletes up to p, at most perTransaction records, and tells
// whether it is through.
func (s *state) acknowledge(tx *bolt.Tx, p Position) (through bool, err error) {
	bucket := tx.Bucket(epochBucket(p.Epoch))
	if bucket == nil || p.Epoch == s.Epoch && p.Seq > s.Last {
		return false, fmt.Errorf("acknowledge %s/%d: %w", p.Epoch, p.Seq, ErrNoRecord)
	}
	gone := make([]uint64, 0, 64)
	c := bucket.Cursor()
	k, v := c.First()
	for ; k != nil && binary.BigEndian.Uint64(k) <= p.Seq && len(gone) < perTransaction; k, v = c.Next() {
		if r, err := decode(p.Epoch, k, v); err == nil && r.Gap != nil {
			s.Gaps--
		} else {
			s.Pending--
			s.PendingBytes -= size(v)
			s.AckedCount++
		}
		gone = append(gone, binary.BigEndian.Uint64(k))
	}
	through = k == nil || binary.BigEndian.Uint64(k) > p.Seq
	empty := k == nil
	if err := remove(bucket, gone); err != nil {
		return false, err
	}
	if p.Epoch != s.Epoch {
		if empty {
			return true, tx.DeleteBucket(epochBucket(p.Epoch))
		}
		return through, nil
	}
	reached := p.Seq
	if !through {
		reached = gone[len(gone)-1]
	}
	s.Acknowledged = max(s.Acknowledged, reached)
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
	bucket := tx.Bucket(epochBucket(p.Epoch))
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
	s.Pending--
	s.PendingBytes -= size(b)
	s.Dropped[ReasonCorruption]++
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
	return bucket.Put(key(p.Seq), encodeGap(gap))
}

// epochs gives the epochs that the store holds, oldest first.
func epochs(tx *bolt.Tx) []string {
	var all []string
	c := tx.Cursor()
	for name, _ := c.Seek(epochPrefix); bytes.HasPrefix(name, epochPrefix); name, _ = c.Next() {
		all = append(all, string(name[len(epochPrefix):]))
	}
	return all
}

// read gives the records after a position, see Outbox.Read. If the first of
// them is damaged it gives that one's position.
func read(tx *bolt.Tx, after Position, most, mostBytes int) (records []Record, damaged *Position, err error) {
	for _, epoch := range epochs(tx) {
		if epoch < after.Epoch {
			continue
		}
		from, total := uint64(0), 0
		if epoch == after.Epoch {
			if after.Seq == math.MaxUint64 {
				continue
			}
			from = after.Seq + 1
		}
		cursor := tx.Bucket(epochBucket(epoch)).Cursor()
		for k, v := cursor.Seek(key(from)); k != nil && len(records) < most; k, v = cursor.Next() {
			if len(k) != 8 {
				return nil, nil, fmt.Errorf("%w: key of %d bytes", errBadState, len(k))
			}
			r, err := decode(epoch, k, v)
			if err != nil {
				if len(records) == 0 {
					damaged = &Position{epoch, binary.BigEndian.Uint64(k)}
				}
				return records, damaged, nil
			}
			if total += len(r.Value); total > mostBytes && len(records) > 0 {
				break
			}
			r.Value = slices.Clone(r.Value)
			records = append(records, r)
		}
		if len(records) > 0 {
			return records, nil, nil
		}
	}
	return nil, nil, nil
}
