// Package outbox keeps the records of one stream on disk until their consumer
// has acknowledged them.
//
// Append returns nil only after the record, and the marks that belong to it,
// are on disk in one transaction of bbolt: accepted means durable. A single
// writer takes everything that waits into one commit and adds no delay of its
// own, so that one caller pays one commit and many callers share one.
//
// Each record has a position: the epoch of its store and a sequence that starts
// at 1, only grows, and is given in the transaction. What cannot be delivered
// any more, because the backlog outgrew MaxSize or the disk damaged it, is
// replaced by a gap record, which is delivered like any other and carries the
// last sequence of what it stands for. So the books balance at all times:
// accepted = acknowledged + pending + dropped.
//
// A file that cannot be trusted any more is set aside, and what can be read of it
// is taken over into a new one: salvaged records keep their epoch and sequence,
// what is lost of them is told by gap records, and a new epoch begins with a gap
// that names the old one. Memory never stands in for the disk.
//
// When nearly all is acknowledged, what is left is copied into a new file, since
// bbolt's never shrinks. Acknowledged records are gone for good.
//
// Limits: a value has at most MaxValue bytes. One process at a time.
package outbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// MaxValue is the most bytes of one value: a record and what is added when it
// is sent must fit into a message of 64 KiB.
const MaxValue = 56 << 10

// ErrUnavailable says that the store is not open; Status tells why.
var ErrUnavailable = errors.New("outbox is not open")

// ErrNoRecord says that a position was never given by this store, or that its
// epoch is over.
var ErrNoRecord = errors.New("no such record")

// Options of an outbox.
type Options struct {
	Path    string // the bbolt file; its folder must exist
	Stream  string // name of the stream, kept in the file and compared at each open
	MaxSize int64  // most bytes of pending records, and of the file from 1 MiB on; beyond it the oldest are dropped; 0 = no limit
	// NewEpoch gives the epoch of a new store, as "000001-9f3a77c2": it sorts after
	// those given earlier, and after the one that is passed. before is the one in use
	// until now, "" if there was none.
	NewEpoch func(after string) (epoch, before string, err error)
	Log      *slog.Logger
}

// Position of a record. The zero Position is before the first record.
type Position struct {
	Epoch string
	Seq   uint64
}

// Mark is a named value that belongs to records and is written with them.
type Mark struct {
	Name  string
	Value []byte
}

// Gap stands for records that were lost: From to To of Epoch, which is the epoch
// of the gap's own position unless a new epoch begins with it. There, To may be
// From-1: nothing is known to be lost.
type Gap struct {
	Epoch  string `json:"epoch"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
	Count  uint64 `json:"count"`
	Open   bool   `json:"open,omitempty"` // and nobody can tell how many after To
	Reason string `json:"reason"`
}

// Reasons of a Gap.
const (
	ReasonSize       = "size"
	ReasonCorruption = "corruption"
	ReasonSalvage    = "salvage" // begins the epoch after a salvage
	ReasonRestore    = "restore" // begins the epoch of a store that replaces one that was not there
)

// Beginning says what became of a store when it was opened.
type Beginning string

const (
	Fresh    Beginning = "fresh"    // the first of this stream
	Replaced Beginning = "replaced" // there had been one, and its file was not there
	Salvaged Beginning = "salvaged" // the file was damaged
	Restored Beginning = "restored" // the file had been put back from a copy, see Renew
)

// Record is what Read gives: a value, or a gap that replaces values.
type Record struct {
	Position
	Recorded time.Time // UTC, when Append was called
	Gap      *Gap      // nil for a value
	Value    []byte    // nil for a gap
}

// Status is a snapshot of the store. While it is not open, the numbers are
// those of when it last was.
type Status struct {
	Open  bool      `json:"open"`           // records are accepted
	Since time.Time `json:"since"`          // of Open
	Code  string    `json:"code,omitempty"` // stable cause while not open: full, readonly, permission, missing, locked, damaged, wrong_stream, io
	Err   string    `json:"err,omitempty"`
	Hint  string    `json:"hint,omitempty"` // what an operator can do

	Epoch        string `json:"epoch"`
	First        uint64 `json:"first"`        // first sequence not acknowledged, Last+1 if there is none
	Last         uint64 `json:"last"`         // 0 before the first record
	Acknowledged uint64 `json:"acknowledged"` // highest sequence acknowledged

	Accepted          uint64            `json:"accepted"`           // records, over the life of the store
	AcknowledgedCount uint64            `json:"acknowledged_count"` // records
	Pending           uint64            `json:"pending"`            // records, gaps not counted
	PendingBytes      int64             `json:"pending_bytes"`      // nearly so after records were damaged
	Gaps              uint64            `json:"gaps"`               // gap records that wait for delivery
	Dropped           map[string]uint64 `json:"dropped"`            // records by reason
	FileBytes         int64             `json:"file_bytes"`
	Commits           uint64            `json:"commits"` // since the process started

	Begun       Beginning     `json:"begun,omitempty"`         // how the store, or its epoch, began, if it did in this run
	Damages     []Damage      `json:"damages,omitempty"`       // files that were set aside and still lie there, oldest first
	Unreported  []string      `json:"unreported,omitempty"`    // see the function; only where it is asked for
	Compactions uint64        `json:"compactions"`             // since the process started
	Pause       time.Duration `json:"longest_pause,omitempty"` // of those who append, by a compaction; nanoseconds
}

// Outbox is the durable backlog of one stream. All methods may be called from
// any goroutine; they work while Run does.
type Outbox struct {
	opts   Options
	retry  time.Duration
	opened chan struct{}
	wake   chan struct{} // to the writer: something waits

	queue   sync.Mutex
	usable  bool   // the writer takes tasks
	taking  bool   // and batches
	waiting *batch // what the next commit takes
	tasks   []*task
	wanted  []chan error // compactions that were asked for, see Compact

	// Of Run alone.
	suspect bool      // the store that was open last turned out to be damaged
	doubted time.Time // when that was so last, and nothing was found
	refused *refusal  // what the last commit was to write, if it failed

	mu     sync.RWMutex // held by readers for a whole transaction; taken to open and close
	handle *handle

	seen     sync.Mutex
	status   Status
	appended chan struct{}
}

// batch is what one commit writes; its callers wait for done.
type batch struct {
	entries []entry
	epoch   string
	err     error
	done    chan struct{}
}

// entry is one caller's part of a batch.
type entry struct {
	value []byte // encoded record, not yet sealed; nil when only marks are set
	sum   uint32 // that encode left in value
	marks []Mark
	seq   uint64
}

// task is work on what exists: to acknowledge up to a position, to replace a
// damaged record by a gap, to begin a new epoch, or to give up a file that cannot
// be trusted.
type task struct {
	position Position
	repair   bool
	renew    bool
	fault    error
	err      error
	done     chan struct{}
}

// New returns an outbox that Run opens.
func New(o Options) *Outbox {
	return &Outbox{
		opts:    o,
		retry:   5 * time.Second,
		opened:  make(chan struct{}),
		wake:    make(chan struct{}, 1),
		waiting: newBatch(),
		status:  Status{Since: time.Now(), Err: "not opened yet", Dropped: map[string]uint64{}},
	}
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// Append adds value to the stream and sets marks in the same transaction. It
// returns a nil error only when both are on disk. After ctx's end it returns at
// once; the record may or may not be written then.
func (o *Outbox) Append(ctx context.Context, value []byte, marks ...Mark) (Position, error) {
	if len(value) > MaxValue {
		return Position{}, fmt.Errorf("append to %s: %d bytes, more than %d", o.opts.Stream, len(value), MaxValue)
	}
	return o.write(ctx, encodeValue(time.Now(), value), marks)
}

// SetMarks sets marks without a record.
func (o *Outbox) SetMarks(ctx context.Context, marks ...Mark) error {
	_, err := o.write(ctx, nil, marks)
	return err
}

func (o *Outbox) write(ctx context.Context, value []byte, marks []Mark) (Position, error) {
	if err := ctx.Err(); err != nil {
		return Position{}, err
	}
	e := entry{value: value}
	if value != nil {
		e.sum = sumOf(value)
	}
	for _, m := range marks {
		e.marks = append(e.marks, Mark{m.Name, slices.Clone(m.Value)}) // the caller may go before the commit
	}
	o.queue.Lock()
	if !o.taking {
		o.queue.Unlock()
		return Position{}, ErrUnavailable
	}
	b, i := o.waiting, len(o.waiting.entries)
	b.entries = append(b.entries, e)
	o.queue.Unlock()
	if i == 0 {
		o.signal()
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return Position{}, ctx.Err()
	}
	if b.err != nil {
		return Position{}, b.err
	}
	return Position{b.epoch, b.entries[i].seq}, nil
}

// Acknowledge deletes all records up to p, p included, within p's epoch. A
// position that was acknowledged before changes nothing.
func (o *Outbox) Acknowledge(ctx context.Context, p Position) error {
	return o.do(ctx, &task{position: p, done: make(chan struct{})})
}

// Renew ends the epoch and begins a new one, with a gap of the reason restore: for
// a store that was put back from a copy, since it would give sequences once more.
func (o *Outbox) Renew(ctx context.Context) error {
	return o.do(ctx, &task{renew: true, done: make(chan struct{})})
}

func (o *Outbox) do(ctx context.Context, t *task) error {
	o.queue.Lock()
	if !o.usable {
		o.queue.Unlock()
		return ErrUnavailable
	}
	o.tasks = append(o.tasks, t)
	o.queue.Unlock()
	o.signal()
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (o *Outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Mark gives the value last set under name, nil if there is none.
func (o *Outbox) Mark(name string) ([]byte, error) {
	var value []byte
	err := o.view(func(tx *bolt.Tx) (err error) {
		value, err = markOf(tx, name)
		return err
	})
	return value, err
}

// Read gives copies of up to max records after a position, in order and of one
// epoch only: at most maxBytes of values, but at least one record if there is
// one. What is acknowledged is not given. A record that the disk damaged is
// replaced by a gap before it is given.
func (o *Outbox) Read(after Position, max, maxBytes int) ([]Record, error) {
	for {
		var records []Record
		var damaged *Position
		err := o.view(func(tx *bolt.Tx) error {
			s, err := stateOf(tx)
			if err == nil {
				s.hide(o.Status()) // a commit that failed may be there all the same
				records, damaged, err = s.read(tx, after, max, maxBytes)
			}
			return err
		})
		if err != nil || len(records) > 0 || damaged == nil {
			return records, err
		}
		t := &task{position: *damaged, repair: true, done: make(chan struct{})}
		if err := o.do(context.Background(), t); err != nil {
			return nil, fmt.Errorf("replace damaged record %s/%d: %w", damaged.Epoch, damaged.Seq, err)
		}
	}
}

// view runs f in a read transaction. When that shows that the file cannot be
// trusted, the writer is told to give it up.
func (o *Outbox) view(f func(*bolt.Tx) error) error {
	o.mu.RLock()
	if o.handle == nil {
		o.mu.RUnlock()
		return ErrUnavailable
	}
	err := o.handle.view(f)
	o.mu.RUnlock()
	if !isDamage(err) {
		return err
	}
	t := &task{fault: fmt.Errorf("read %s: %w", o.opts.Path, err), done: make(chan struct{})}
	return o.do(context.Background(), t)
}

// Appended returns a channel that is closed when the next record, or gap, is on
// disk. Ask for it before Read, wait on it when Read gave nothing.
func (o *Outbox) Appended() <-chan struct{} {
	o.seen.Lock()
	defer o.seen.Unlock()
	if o.appended == nil {
		o.appended = make(chan struct{})
	}
	return o.appended
}

// Opened returns a channel that is closed when the store was opened first.
func (o *Outbox) Opened() <-chan struct{} { return o.opened }

// Status returns a snapshot.
func (o *Outbox) Status() Status {
	o.seen.Lock()
	defer o.seen.Unlock()
	s := o.status
	s.Dropped = maps.Clone(s.Dropped)
	return s
}

// key of a record: its sequence, so that the order of keys is the order of
// records.
func key(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }
