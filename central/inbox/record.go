package inbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hallagent/hallagent/sync/wire"
)

// record is a Record and where it came from.
type record struct {
	Record
	bad     error // why no effect can be given it
	message []byte
	index   int // in message
}

// first sequence that the record stands for.
func (r *record) first() uint64 {
	if r.Gap != nil && r.Gap.Epoch == r.Epoch {
		return r.Gap.From
	}
	return r.Sequence
}

// raw gives the event as it came.
func (r *record) raw() []byte {
	var events []json.RawMessage
	if json.Unmarshal(r.message, &events) == nil && r.index < len(events) {
		return events[r.index]
	}
	return r.message
}

// text makes a string fit for a column of PostgreSQL.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, string(utf8.RuneError)), "\x00", string(utf8.RuneError))
}

// batch is a message that was read: records of one epoch.
type batch struct {
	stream  string
	epoch   string
	records []record
	bytes   int
}

// last sequence of the batch.
func (b *batch) last() uint64 { return b.records[len(b.records)-1].Sequence }

// from gives the batch without its first records.
func (b *batch) from(i int) *batch {
	rest := *b
	rest.records = b.records[i:]
	return &rest
}

var errMalformed = errors.New("not a record of this stream")

// decode reads a message into batches, one for each epoch in it.
func decode(h wire.Hall, stream string, message []byte) (batches []*batch, err error) {
	events, err := wire.Decode(message)
	if err != nil {
		return nil, err
	}
	for i, e := range events {
		sequence, err := strconv.ParseUint(e.Sequence, 10, 63)
		if err != nil || sequence == 0 || !epochValid(e.Epoch) || e.Stream != stream {
			return nil, fmt.Errorf("%w: stream %q epoch %q sequence %q", errMalformed, e.Stream, e.Epoch, e.Sequence)
		}
		r := record{Record: Record{Hall: h, Stream: stream, Epoch: e.Epoch, Sequence: sequence, Event: e}, message: message, index: i}
		if e.Type == wire.TypeGap {
			r.bad = r.readGap()
		}
		if n := len(batches); n == 0 || batches[n-1].epoch != e.Epoch {
			batches = append(batches, &batch{stream: stream, epoch: e.Epoch, bytes: len(message)})
		}
		b := batches[len(batches)-1]
		b.records = append(b.records, r)
	}
	return batches, nil
}

func (r *record) readGap() error {
	var g wire.Gap
	if err := json.Unmarshal(r.Event.Data, &g); err != nil {
		return fmt.Errorf("read gap: %w", err)
	}
	own := g.Epoch == r.Epoch
	if !epochValid(g.Epoch) || g.From == 0 || g.To < g.From-1 || g.To >= 1<<62 || g.Count > g.To+1-g.From ||
		own && (g.To != r.Sequence || g.To < g.From) {
		return fmt.Errorf("gap %s %d to %d at %s %d makes no sense", g.Epoch, g.From, g.To, r.Epoch, r.Sequence)
	}
	if g.Reason = text(g.Reason); len(g.Reason) > 64 {
		return fmt.Errorf("gap %s %d to %d has a reason of %d bytes", g.Epoch, g.From, g.To, len(g.Reason))
	}
	r.Gap = &g
	return nil
}

// epochValid tells whether an epoch is six digits, a hyphen and eight hex digits,
// which sort by their number.
func epochValid(epoch string) bool {
	if len(epoch) != 15 || epoch[6] != '-' {
		return false
	}
	return strings.Trim(epoch[:6], "0123456789") == "" && strings.Trim(epoch[7:], "0123456789abcdef") == ""
}

// parseStatus reads the message of a status topic.
func parseStatus(payload []byte) (wire.Status, error) {
	var s wire.Status
	events, err := wire.Decode(payload)
	if err != nil {
		return s, err
	}
	if len(events) != 1 || events[0].Type != wire.TypeStatus {
		return s, errors.New("not one status")
	}
	err = json.Unmarshal(events[0].Data, &s)
	return s, err
}

// verdict on a record.
type verdict int

const (
	next      verdict = iota // it has its effect now
	duplicate                // it had it
	hole                     // something before it is missing
	late                     // it is of a closed epoch, and does not follow its mark
)

// ledger is the marks of one stream.
type ledger struct {
	marks map[string]uint64 // by epoch
}

func newLedger() *ledger { return &ledger{marks: map[string]uint64{}} }

// taken is the newest epoch of which something was taken, "" when nothing ever
// was. Those before it are closed.
func (l *ledger) taken() (newest string) {
	for epoch, mark := range l.marks {
		if mark > 0 && epoch > newest {
			newest = epoch
		}
	}
	return newest
}

// current is the epoch that is acknowledged and asked after: taken, else the
// oldest that was heard of.
func (l *ledger) current() string {
	if taken := l.taken(); taken != "" || len(l.marks) == 0 {
		return taken
	}
	return slices.Min(slices.Collect(maps.Keys(l.marks)))
}

// stranger tells of an epoch that nobody knows but that sorts before the newest.
func (l *ledger) stranger(epoch string) bool {
	_, known := l.marks[epoch]
	return !known && epoch < l.taken()
}

// judge says what is to be done with a record.
func (l *ledger) judge(r *record) verdict {
	mark, closed := l.marks[r.Epoch], r.Epoch < l.taken()
	switch {
	case l.stranger(r.Epoch):
		return late
	case r.Sequence <= mark:
		return duplicate
	case l.waitsFor(r) != "":
		return hole
	case r.first() <= mark+1:
		return next
	case closed:
		return late
	}
	return hole
}

// waitsFor gives the epoch that must be complete before a record that begins
// another: what the agent saved of it goes first, and its gap tells from where on
// it knows of nothing more. "" when it need not wait, as for a closed epoch.
func (l *ledger) waitsFor(r *record) string {
	if r.Gap == nil || r.Gap.Epoch >= r.Epoch || r.Gap.Epoch < l.taken() || r.Sequence != l.marks[r.Epoch]+1 {
		return ""
	}
	if l.marks[r.Gap.Epoch]+1 < r.Gap.From { // of one that was never heard of, all is missing
		return r.Gap.Epoch
	}
	return ""
}

// missing cuts a gap down to what this consumer has not had.
func (l *ledger) missing(g wire.Gap) *wire.Gap {
	if mark := l.marks[g.Epoch]; mark >= g.From {
		g.From = min(mark, g.To) + 1
		g.Count = min(g.Count, g.To+1-g.From)
	}
	return &g
}

// advance sets the marks behind a record that was taken, and gives the epochs
// whose marks it set.
func (l *ledger) advance(r *record) (changed []string) {
	l.marks[r.Epoch] = r.Sequence
	if g := r.Gap; g != nil && g.Epoch != r.Epoch {
		if mark, known := l.marks[g.Epoch]; known && g.From <= mark+1 && g.To > mark {
			l.marks[g.Epoch] = g.To
			return []string{r.Epoch, g.Epoch}
		}
	}
	return []string{r.Epoch}
}
