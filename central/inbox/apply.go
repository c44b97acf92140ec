package inbox

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// counts are the books of a stream.
type counts struct {
	applied, rejected, duplicates, late uint64
	gaps                                map[string]uint64
}

func newCounts() *counts { return &counts{gaps: map[string]uint64{}} }

func (c *counts) add(d *counts) {
	c.applied += d.applied
	c.rejected += d.rejected
	c.duplicates += d.duplicates
	c.late += d.late
	for reason, n := range d.gaps {
		c.gaps[reason] += n
	}
}

// place is an epoch of a stream.
type place struct{ stream, epoch string }

// outcome is what became of some batches.
type outcome struct {
	ledgers map[string]*ledger
	books   map[place]*counts
	touched map[place]bool    // to be acknowledged: something of it came, taken now or before
	changed map[place]bool    // marks to be written
	strange map[string]string // epochs that were never heard of and are older than the newest, by stream
	parked  []*batch          // what is left
	stop    error             // why it went no further
}

func newOutcome(ledgers map[string]*ledger) *outcome {
	return &outcome{ledgers: ledgers, books: map[place]*counts{}, touched: map[place]bool{}, changed: map[place]bool{}, strange: map[string]string{}}
}

func (o *outcome) ledger(stream string) *ledger {
	if o.ledgers[stream] == nil {
		o.ledgers[stream] = newLedger()
	}
	return o.ledgers[stream]
}

func (o *outcome) book(p place) *counts {
	if o.books[p] == nil {
		o.books[p] = newCounts()
	}
	return o.books[p]
}

// late counts a record that is dropped.
func (o *outcome) late(p place) {
	o.book(p).late++
	if o.ledgers[p.stream].stranger(p.epoch) {
		o.strange[p.stream] = p.epoch
	}
}

// mode of giving a record to the effect.
type mode int

const (
	bold    mode = iota // an error undoes everything
	careful             // it undoes that record, and what came before stays
)

// errEffect marks an error of the effect in the mode bold.
var errEffect = errors.New("effect")

// apply gives the records that follow the marks to the effect, in one transaction
// that begins with the lease. batches are in order. What must not be lost of its
// results is in the database; the outcome is true once the transaction is.
func (h *hall) apply(ctx context.Context, tx *sql.Tx, batches []*batch, m mode) (*outcome, error) {
	if err := h.in.fence(ctx, tx, h.hall, h.token); err != nil {
		return nil, err
	}
	rows := h.rows(tx)
	ledgers, err := rows.ledgers(ctx)
	if err != nil {
		return nil, err
	}
	o := newOutcome(ledgers)
	for i, b := range batches {
		if o.stop != nil {
			o.parked = append(o.parked, batches[i:]...)
			break
		}
		if err := h.walk(ctx, rows, o, b, m); err != nil {
			return nil, err
		}
	}
	for p := range o.changed {
		if err := rows.mark(ctx, p.stream, p.epoch, o.ledgers[p.stream].marks[p.epoch], o.book(p)); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// walk applies one batch up to the first record that cannot be.
func (h *hall) walk(ctx context.Context, rows rows, o *outcome, b *batch, m mode) error {
	l, p := o.ledger(b.stream), place{b.stream, b.epoch}
	if _, known := l.marks[b.epoch]; !known && b.epoch > l.taken() {
		l.marks[b.epoch] = 0 // known from now on, should it be closed before anything of it is taken
		o.changed[p] = true
		if err := rows.forget(ctx, b.stream, l.taken()); err != nil {
			return err
		}
	}
	for i := range b.records {
		r := &b.records[i]
		switch l.judge(r) {
		case late:
			o.late(p)
			continue
		case duplicate:
			o.book(p).duplicates++
			o.touched[p] = true
			continue
		case hole:
			o.parked = append(o.parked, b.from(i))
			return nil
		}
		given := *r
		if r.Gap != nil {
			given.Gap = l.missing(*r.Gap)
		}
		err := h.affect(ctx, rows, &given, m)
		var rejected rejection
		switch {
		case errors.As(err, &rejected):
			if err := rows.reject(ctx, &given, rejected); err != nil {
				return err
			}
			o.book(p).rejected++
		case err != nil && m == careful && !errors.Is(err, errUndo):
			o.stop = fmt.Errorf("apply %s %s %d: %w", r.Stream, r.Epoch, r.Sequence, err)
			o.parked = append(o.parked, b.from(i))
			return nil
		case err != nil:
			return err
		case given.Gap == nil:
			o.book(p).applied++
		}
		if given.Gap != nil && given.Gap.Count > 0 {
			o.book(p).gaps[given.Gap.Reason] += given.Gap.Count
			if err := rows.gap(ctx, &given); err != nil {
				return err
			}
		}
		for _, epoch := range l.advance(r) {
			o.changed[place{b.stream, epoch}] = true
		}
		o.touched[p] = true
	}
	return nil
}

// errUndo says that what an effect had begun could not be undone alone.
var errUndo = errors.New("undo effect")

// affect calls the effect. In the mode careful it undoes what an effect did that
// ended in an error; bold, it leaves that to the caller, who does it all again
// carefully: most effects end well, and a savepoint costs as much as one.
func (h *hall) affect(ctx context.Context, rows rows, r *record, m mode) error {
	if r.bad != nil {
		return Reject(r.bad)
	}
	if m == bold {
		if err := h.in.opts.Effect(ctx, rows.tx, r.Record); err != nil {
			return fmt.Errorf("%w: %w", errEffect, &opaque{err})
		}
		return nil
	}
	if _, err := rows.tx.ExecContext(ctx, "SAVEPOINT effect"); err != nil {
		return fmt.Errorf("%w: %w", errUndo, err)
	}
	err := h.in.opts.Effect(ctx, rows.tx, r.Record)
	end := "RELEASE SAVEPOINT effect"
	if err != nil {
		end = "ROLLBACK TO SAVEPOINT effect"
	}
	if _, failed := rows.tx.ExecContext(ctx, end); failed != nil {
		return fmt.Errorf("%w: %w", errUndo, errors.Join(failed, err))
	}
	return err
}

// opaque hides a rejection from walk, but no error of the database from Tx.
type opaque struct{ err error }

func (o *opaque) Error() string { return o.err.Error() }

func (o *opaque) Unwrap() error {
	var rejected rejection
	if errors.As(o.err, &rejected) {
		return rejected.error
	}
	return o.err
}

// still looks at batches without the database, and says whether there is nothing
// to apply among them: all of it had its effect, or must wait.
func still(ledgers map[string]*ledger, batches []*batch) (*outcome, bool) {
	o := newOutcome(ledgers)
	for _, b := range batches {
		l, p := o.ledger(b.stream), place{b.stream, b.epoch}
		if _, known := l.marks[b.epoch]; !known && b.epoch > l.taken() {
			return nil, false
		}
		for i := range b.records {
			v := l.judge(&b.records[i])
			if v == next {
				return nil, false
			}
			if v == hole {
				o.parked = append(o.parked, b.from(i))
				break
			}
			if v == late {
				o.late(p)
				continue
			}
			o.book(p).duplicates++
			o.touched[p] = true
		}
	}
	return o, true
}

// inOrder sorts batches as their streams are.
func inOrder(batches []*batch) {
	slices.SortStableFunc(batches, func(a, b *batch) int {
		return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.records[0].Sequence, b.records[0].Sequence))
	})
}
