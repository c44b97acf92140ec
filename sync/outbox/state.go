package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// The file has one bucket per epoch, one for the marks and one with a single
// value, the state. State and few marks are small enough for bbolt to keep them
// inside the root page, so a commit writes no page of its own for them.
var (
	bucketMarks = []byte("marks")
	bucketState = []byte("state")
	bucketProbe = []byte("probe") // see writer.probe
	keyState    = []byte("state")
	epochPrefix = []byte("epoch/")
)

var (
	errWrongStream = errors.New("file of another stream")
	errBadState    = errors.New("what the store knows of itself does not fit")
)

// state is what the store knows of itself; written in each transaction.
type state struct {
	Stream       string            `json:"stream"`
	Opening      uint32            `json:"opening"` // how often it was opened
	Epochs       []span            `json:"epochs"`  // oldest first; the last is the one that is appended to
	Accepted     uint64            `json:"accepted"`
	AckedCount   uint64            `json:"acked_count"`
	Pending      uint64            `json:"pending"`
	PendingBytes int64             `json:"pending_bytes"`
	Gaps         uint64            `json:"gaps"`
	Dropped      map[string]uint64 `json:"dropped"`
	Marks        uint32            `json:"marks"` // the sums of all marks, one over the other: tells a mark that is not the latest
}

// span is what an epoch holds: the sequences after Acknowledged up to Last, of
// which those up to Shed were dropped for size.
type span struct {
	Epoch        string `json:"epoch"`
	Acknowledged uint64 `json:"acknowledged"`
	Last         uint64 `json:"last"`
	Shed         uint64 `json:"shed,omitempty"`
}

func (s state) clone() state {
	s.Dropped = maps.Clone(s.Dropped)
	s.Epochs = slices.Clone(s.Epochs)
	return s
}

// current is the epoch that is appended to.
func (s *state) current() *span { return &s.Epochs[len(s.Epochs)-1] }

// span gives what the store knows of an epoch, nil if it holds nothing of it.
func (s *state) span(epoch string) *span {
	for i := range s.Epochs {
		if s.Epochs[i].Epoch == epoch {
			return &s.Epochs[i]
		}
	}
	return nil
}

func (s *state) save(tx *bolt.Tx) error {
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	b := encode(kindState, uint64(tx.ID()), body)
	seal(b, s.Opening, bucketState, keyState)
	return tx.Bucket(bucketState).Put(keyState, b)
}

// stateOf reads the state of a store.
func stateOf(tx *bolt.Tx) (state, error) {
	bucket := tx.Bucket(bucketState)
	if bucket == nil {
		return state{}, fmt.Errorf("%w: it is missing", errBadState)
	}
	return decodeState(bucket.Get(keyState))
}

func decodeState(b []byte) (state, error) {
	s := state{Dropped: map[string]uint64{}}
	if !intact(b, bucketState, keyState) || kindOf(b) != kindState {
		return s, fmt.Errorf("%w: its checksum is wrong", errBadState)
	}
	if err := json.Unmarshal(b[headerSize:], &s); err != nil {
		return s, fmt.Errorf("%w: %w", errBadState, err)
	}
	if len(s.Epochs) == 0 {
		return s, fmt.Errorf("%w: no epoch", errBadState)
	}
	return s, nil
}

// load reads the state of an open file, or lays out a new store. It writes in
// either case: only a store that takes a write is usable.
func load(h *handle, o Options) (s state, begun Beginning, err error) {
	err = h.update(func(tx *bolt.Tx) error {
		if tx.Bucket(bucketState) == nil && tx.ID() <= firstTransaction {
			s, begun, err = begin(tx, o)
			return err
		}
		if s, err = stateOf(tx); err != nil {
			return err
		}
		if tx.Bucket(bucketProbe) != nil { // a kill came in its midst
			if err := tx.DeleteBucket(bucketProbe); err != nil {
				return err
			}
		}
		if s.Stream != o.Stream {
			return fmt.Errorf("%w: it holds %q, not %q", errWrongStream, s.Stream, o.Stream)
		}
		for _, e := range s.Epochs {
			if tx.Bucket(epochBucket(e.Epoch)) == nil {
				return fmt.Errorf("%w: epoch %s is missing", errBadState, e.Epoch)
			}
		}
		if err := checkMarks(tx, s.Marks); err != nil {
			return err
		}
		s.Opening++
		return s.save(tx)
	})
	return s, begun, err
}

// firstTransaction is the number of the first that bbolt gives in a new file.
const firstTransaction = 2

// begin lays out a store in an empty file. Where there had been one, its first
// record is a gap that says so.
func begin(tx *bolt.Tx, o Options) (state, Beginning, error) {
	epoch, before, err := o.NewEpoch("")
	if err != nil {
		return state{}, "", fmt.Errorf("begin an epoch: %w", err)
	}
	s := state{Stream: o.Stream, Opening: 1, Dropped: map[string]uint64{}}
	begun := Fresh
	if before != "" {
		begun = Replaced
	}
	if err := s.layOut(tx); err != nil {
		return s, "", err
	}
	if err := s.beginEpoch(tx, epoch, Gap{Epoch: before, From: 1, Open: true, Reason: ReasonRestore}); err != nil {
		return s, "", err
	}
	return s, begun, s.save(tx)
}

// beginEpoch begins a new epoch with a gap that tells of the one before it, if
// there was one.
func (s *state) beginEpoch(tx *bolt.Tx, epoch string, ended Gap) error {
	if len(s.Epochs) > 0 && epoch <= s.current().Epoch {
		return fmt.Errorf("begin an epoch: %s does not sort after %s", epoch, s.current().Epoch)
	}
	name := epochBucket(epoch)
	bucket, err := tx.CreateBucket(name)
	if err != nil {
		return err
	}
	s.Epochs = append(s.Epochs, span{Epoch: epoch})
	if ended.Epoch == "" {
		return nil
	}
	s.current().Last = 1
	s.Gaps++
	return put(bucket, name, s.Opening, 1, encodeGap(ended))
}

// layOut makes the buckets of a store that are not there yet.
func (s *state) layOut(tx *bolt.Tx) error {
	names := [][]byte{bucketState, bucketMarks}
	for _, e := range s.Epochs {
		names = append(names, epochBucket(e.Epoch))
	}
	for _, name := range names {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return nil
}

// setMark writes a mark.
func (s *state) setMark(tx *bolt.Tx, m Mark) error {
	b := encode(kindMark, uint64(tx.ID()), m.Value)
	seal(b, s.Opening, bucketMarks, []byte(m.Name))
	return s.putMark(tx, m.Name, b)
}

// putMark writes a sealed mark, nil to remove it, and keeps the sum over all.
func (s *state) putMark(tx *bolt.Tx, name string, b []byte) error {
	bucket := tx.Bucket(bucketMarks)
	if before := bucket.Get([]byte(name)); len(before) >= headerSize {
		s.Marks ^= sumOf(before)
	}
	if b == nil {
		return bucket.Delete([]byte(name))
	}
	s.Marks ^= sumOf(b)
	return bucket.Put([]byte(name), b)
}

// markOf gives a copy of a mark's value, nil if there is none.
func markOf(tx *bolt.Tx, name string) ([]byte, error) {
	b := tx.Bucket(bucketMarks).Get([]byte(name))
	if b == nil {
		return nil, nil
	}
	if !intact(b, bucketMarks, []byte(name)) {
		return nil, fmt.Errorf("%w: mark %q is damaged", errBadState, name)
	}
	return slices.Clone(b[headerSize:]), nil
}

// checkMarks tells whether the marks are those that the state knows.
func checkMarks(tx *bolt.Tx, sum uint32) error {
	bucket := tx.Bucket(bucketMarks)
	if bucket == nil {
		return fmt.Errorf("%w: no marks", errBadState)
	}
	found := uint32(0)
	err := bucket.ForEach(func(name, b []byte) error {
		if !intact(b, bucketMarks, name) {
			return fmt.Errorf("%w: mark %q is damaged", errBadState, name)
		}
		found ^= sumOf(b)
		return nil
	})
	if err == nil && found != sum {
		err = fmt.Errorf("%w: a mark is not the latest", errBadState)
	}
	return err
}

func epochBucket(epoch string) []byte { return append(slices.Clone(epochPrefix), epoch...) }

// hide leaves out what is beyond the last record that was accepted.
func (s *state) hide(known Status) {
	if e := s.current(); e.Epoch == known.Epoch {
		e.Last = min(e.Last, known.Last)
	}
}

// over tells whether more is pending than may be.
func (s *state) over(maxSize int64) bool {
	return maxSize > 0 && s.PendingBytes > maxSize && s.Pending > 1
}
