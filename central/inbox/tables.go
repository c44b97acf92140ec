package inbox

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/hallagent/hallagent/central/store"
)

// tables of all services. A mark of 0 says that an epoch is known and nothing of
// it was taken yet. Gaps are listed where they stood in the stream, with what
// this consumer misses by them.
var tables = []string{`
CREATE TABLE inbox_instance (
	service  TEXT   NOT NULL,
	instance TEXT   NOT NULL,
	seen     BIGINT NOT NULL,
	PRIMARY KEY (service, instance));
CREATE TABLE inbox_lease (
	service TEXT   NOT NULL,
	hall    TEXT   NOT NULL,
	holder  TEXT   NOT NULL,
	token   BIGINT NOT NULL,
	expires BIGINT NOT NULL,
	PRIMARY KEY (service, hall));
CREATE TABLE inbox_mark (
	service  TEXT   NOT NULL,
	hall     TEXT   NOT NULL,
	stream   TEXT   NOT NULL,
	epoch    TEXT   NOT NULL,
	mark     BIGINT NOT NULL,
	applied  BIGINT NOT NULL,
	rejected BIGINT NOT NULL,
	changed  BIGINT NOT NULL,
	PRIMARY KEY (service, hall, stream, epoch));
CREATE TABLE inbox_gap (
	service  TEXT   NOT NULL,
	hall     TEXT   NOT NULL,
	stream   TEXT   NOT NULL,
	epoch    TEXT   NOT NULL,
	sequence BIGINT NOT NULL,
	of_epoch TEXT   NOT NULL,
	first    BIGINT NOT NULL,
	last     BIGINT NOT NULL,
	records  BIGINT NOT NULL,
	reason   TEXT   NOT NULL,
	at       BIGINT NOT NULL,
	PRIMARY KEY (service, hall, stream, epoch, sequence));
CREATE TABLE inbox_rejected (
	service  TEXT   NOT NULL,
	hall     TEXT   NOT NULL,
	stream   TEXT   NOT NULL,
	epoch    TEXT   NOT NULL,
	sequence BIGINT NOT NULL,
	at       BIGINT NOT NULL,
	error    TEXT   NOT NULL,
	event    TEXT   NOT NULL,
	PRIMARY KEY (service, hall, stream, epoch, sequence));
`}

// rows are one hall's part of the tables, in a transaction.
type rows struct {
	db      *store.DB
	tx      *sql.Tx
	service string
	hall    string
}

// ledgers reads the marks.
func (r rows) ledgers(ctx context.Context) (map[string]*ledger, error) {
	found, err := r.tx.QueryContext(ctx, "SELECT stream, epoch, mark FROM inbox_mark WHERE service = $1 AND hall = $2", r.service, r.hall)
	if err != nil {
		return nil, fmt.Errorf("read marks: %w", err)
	}
	defer found.Close()
	ledgers := map[string]*ledger{}
	for found.Next() {
		var stream, epoch string
		var mark uint64
		if err := found.Scan(&stream, &epoch, &mark); err != nil {
			return nil, fmt.Errorf("read marks: %w", err)
		}
		l := ledgers[stream]
		if l == nil {
			l = newLedger()
			ledgers[stream] = l
		}
		l.marks[epoch] = mark
	}
	return ledgers, found.Err()
}

// books reads what is counted over all time.
func (r rows) books(ctx context.Context) (map[string]*counts, error) {
	books := map[string]*counts{}
	of := func(stream string) *counts {
		if books[stream] == nil {
			books[stream] = newCounts()
		}
		return books[stream]
	}
	sums, err := r.tx.QueryContext(ctx, "SELECT stream, CAST(SUM(applied) AS BIGINT), CAST(SUM(rejected) AS BIGINT) FROM inbox_mark WHERE service = $1 AND hall = $2 GROUP BY stream", r.service, r.hall)
	if err != nil {
		return nil, fmt.Errorf("read books: %w", err)
	}
	defer sums.Close()
	for sums.Next() {
		var stream string
		var applied, rejected uint64
		if err := sums.Scan(&stream, &applied, &rejected); err != nil {
			return nil, fmt.Errorf("read books: %w", err)
		}
		of(stream).applied, of(stream).rejected = applied, rejected
	}
	if err := sums.Err(); err != nil {
		return nil, fmt.Errorf("read books: %w", err)
	}
	gaps, err := r.tx.QueryContext(ctx, "SELECT stream, reason, SUM(1.0 * records) FROM inbox_gap WHERE service = $1 AND hall = $2 GROUP BY stream, reason", r.service, r.hall)
	if err != nil {
		return nil, fmt.Errorf("read gaps: %w", err)
	}
	defer gaps.Close()
	for gaps.Next() {
		var stream, reason string
		var records float64 // the sum of what agents claim may be more than fits a number
		if err := gaps.Scan(&stream, &reason, &records); err != nil {
			return nil, fmt.Errorf("read gaps: %w", err)
		}
		of(stream).gaps[reason] = uint64(min(records, 1<<63))
	}
	return books, gaps.Err()
}

// mark writes the mark of an epoch and adds to its books.
func (r rows) mark(ctx context.Context, stream, epoch string, mark uint64, c *counts) error {
	_, err := r.tx.ExecContext(ctx, "INSERT INTO inbox_mark (service, hall, stream, epoch, mark, applied, rejected, changed) VALUES ($1, $2, $3, $4, $5, $6, $7, "+r.db.Now()+") "+
		"ON CONFLICT (service, hall, stream, epoch) DO UPDATE SET mark = $5, applied = inbox_mark.applied + $6, rejected = inbox_mark.rejected + $7, changed = "+r.db.Now(),
		r.service, r.hall, stream, epoch, int64(mark), int64(c.applied), int64(c.rejected))
	if err != nil {
		return fmt.Errorf("write mark: %w", err)
	}
	return nil
}

// forget deletes the marks of closed epochs that nothing was heard of for long;
// their books go to the newest.
func (r rows) forget(ctx context.Context, stream, newest string) error {
	old := "service = $1 AND hall = $2 AND stream = $3 AND epoch < $4 AND changed < " + r.db.Now() + " - $5"
	for _, statement := range []string{
		"UPDATE inbox_mark SET applied = applied + (SELECT COALESCE(SUM(o.applied), 0) FROM inbox_mark o WHERE " + old + "), " +
			"rejected = rejected + (SELECT COALESCE(SUM(o.rejected), 0) FROM inbox_mark o WHERE " + old + ") " +
			"WHERE service = $1 AND hall = $2 AND stream = $3 AND epoch = $4",
		"DELETE FROM inbox_mark WHERE " + old,
	} {
		if _, err := r.tx.ExecContext(ctx, statement, r.service, r.hall, stream, newest, keepEpochs.Milliseconds()); err != nil {
			return fmt.Errorf("delete old marks: %w", err)
		}
	}
	return nil
}

// gap lists what a gap record says is missing.
func (r rows) gap(ctx context.Context, rec *record) error {
	g := rec.Gap
	_, err := r.tx.ExecContext(ctx, "INSERT INTO inbox_gap (service, hall, stream, epoch, sequence, of_epoch, first, last, records, reason, at) "+
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, "+r.db.Now()+") ON CONFLICT (service, hall, stream, epoch, sequence) DO NOTHING",
		r.service, r.hall, rec.Stream, rec.Epoch, int64(rec.Sequence), g.Epoch, int64(g.From), int64(g.To), int64(g.Count), g.Reason)
	if err != nil {
		return fmt.Errorf("write gap: %w", err)
	}
	return nil
}

// reject puts a record aside.
func (r rows) reject(ctx context.Context, rec *record, why error) error {
	_, err := r.tx.ExecContext(ctx, "INSERT INTO inbox_rejected (service, hall, stream, epoch, sequence, at, error, event) VALUES ($1, $2, $3, $4, $5, "+r.db.Now()+", $6, $7) "+
		"ON CONFLICT (service, hall, stream, epoch, sequence) DO NOTHING",
		r.service, r.hall, rec.Stream, rec.Epoch, int64(rec.Sequence), text(why.Error()), text(string(rec.raw())))
	if err != nil {
		return fmt.Errorf("write rejected record: %w", err)
	}
	return nil
}
