// Package store keeps what the central services know in an SQL database:
// SQLite in a file, which needs nothing installed, or PostgreSQL, which any
// number of instances may share.
//
// It is no layer over SQL. The services write statements that both databases
// understand: parameters are $1, $2…, times are BIGINT milliseconds since 1970
// UTC, truth is BIGINT 0 or 1, upserts are INSERT … ON CONFLICT. What differs all
// the same is in a few functions of dialect.go, and nowhere else.
//
// Tx runs a function in a transaction, again if the database asks for that, so
// the function must have no effect but that on the database. On PostgreSQL it is
// READ COMMITTED: two instances that write the same rows must lock what they
// read (ForUpdate). On SQLite there is one writer at a time, over all processes.
//
// Limits: a transaction in which nothing is asked for IdleLimit is ended by
// PostgreSQL, so that an instance which stands still lets go of its locks;
// SQLite cannot do that, and one that stands still in the midst of a transaction
// holds up all the others: share halls between instances on PostgreSQL only.
package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"time"
)

// IdleLimit is how long a transaction may do nothing at the database.
const IdleLimit = 2 * time.Second

const (
	tries   = 10                    // of a transaction that the database could not serialize
	longest = 50 * time.Millisecond // first pause between two of them; doubles up to 16 times that
)

// DB is an open database. All methods may be called from any goroutine.
type DB struct {
	*dialect
	write *sql.DB
	read  *sql.DB // the same as write on PostgreSQL
}

// Open opens the database of a URL: sqlite:///path or a bare path, whose folder
// must exist, or postgres://user@host/database. ctx bounds the first connection.
func Open(ctx context.Context, url string) (*DB, error) {
	d, write, read, err := open(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return &DB{dialect: d, write: write, read: read}, nil
}

// Close ends all connections.
func (d *DB) Close() error {
	err := d.write.Close()
	if d.read != d.write {
		if e := d.read.Close(); err == nil {
			err = e
		}
	}
	return err
}

// Tx runs f in a transaction and commits it. When the database could not
// serialize it with others, or was busy with them, all of that is done again, up
// to ten times: f must have no effect but that on the database, and must wrap the
// errors that it got from it. An error of the commit itself may leave open
// whether it took place.
func (d *DB) Tx(ctx context.Context, f func(*sql.Tx) error) error {
	for try := 1; ; try++ {
		err := once(ctx, d.write, nil, f)
		if err == nil || try == tries || !d.again(err) {
			return err
		}
		select {
		case <-time.After(rand.N(longest << min(try-1, 4))):
		case <-ctx.Done():
			return err
		}
	}
}

// View runs f in a transaction that only reads. It waits for no writer.
func (d *DB) View(ctx context.Context, f func(*sql.Tx) error) error {
	return once(ctx, d.read, &sql.TxOptions{ReadOnly: true}, f)
}

func once(ctx context.Context, db *sql.DB, o *sql.TxOptions, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer tx.Rollback() // after a commit it does nothing
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
