package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// dialect is what differs between the databases.
type dialect struct {
	name  string
	words *strings.Replacer // in migrations
	now   string
	lock  string
	skip  string
	only  string           // taken first by whoever migrates
	again func(error) bool // the same transaction may succeed another time
}

// Now is an SQL expression: milliseconds since 1970 by the database's clock, at
// the moment it is evaluated. It must not be compared with a clock of ours.
func (d *dialect) Now() string { return d.now }

// ForUpdate ends a SELECT whose rows nobody else may change until the
// transaction ends. On SQLite it is empty: a Tx there is alone.
func (d *dialect) ForUpdate() string { return d.lock }

// ForUpdateFree is ForUpdate, but leaves out rows that another transaction holds
// instead of waiting for it.
func (d *dialect) ForUpdateFree() string { return d.skip }

// Statements gives the context for the statements of many a row in a transaction
// of ctx. On SQLite it does not end: there a statement waits for nothing but the
// disk, and the driver pays for the watch over a context more than for an INSERT.
func (d *dialect) Statements(ctx context.Context) context.Context {
	if d.name == "sqlite" {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// String names the database: "sqlite" or "postgres".
func (d *dialect) String() string { return d.name }

func sqliteDialect() *dialect {
	return &dialect{
		name:  "sqlite",
		words: strings.NewReplacer("{id}", "INTEGER PRIMARY KEY AUTOINCREMENT", "{bytes}", "BLOB"),
		now:   "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
		again: func(err error) bool {
			var e *sqlite.Error
			return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED)
		},
	}
}

func postgresDialect() *dialect {
	return &dialect{
		name:  "postgres",
		words: strings.NewReplacer("{id}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "{bytes}", "BYTEA"),
		now:   "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
		lock:  " FOR UPDATE",
		skip:  " FOR UPDATE SKIP LOCKED",
		only:  "SELECT pg_advisory_xact_lock(7503960133)",
		again: func(err error) bool {
			var e *pgconn.PgError
			return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01") // serialization failure, deadlock
		},
	}
}

func open(ctx context.Context, address string) (d *dialect, write, read *sql.DB, err error) {
	switch scheme, rest, found := strings.Cut(address, "://"); {
	case scheme == "postgres" || scheme == "postgresql":
		d = postgresDialect()
		if write, err = openPostgres(address); err != nil {
			return nil, nil, nil, err
		}
		read = write
	case !found || scheme == "sqlite":
		if !found {
			rest = address
		}
		if rest == "" || strings.Contains(rest, "?") {
			return nil, nil, nil, fmt.Errorf("%q is no path of a file", address)
		}
		d = sqliteDialect()
		if write, err = openSQLite(rest, 1, "immediate"); err != nil {
			return nil, nil, nil, err
		}
		if err := connect(ctx, write, d); err != nil { // it makes the file
			write.Close()
			return nil, nil, nil, err
		}
		if read, err = openSQLite(rest, 4, "deferred", "query_only(1)"); err != nil {
			return nil, nil, nil, err
		}
	default:
		return nil, nil, nil, fmt.Errorf("%q is neither a path, sqlite:///path nor postgres://host/database", scheme)
	}
	for _, db := range []*sql.DB{write, read} {
		if err := connect(ctx, db, d); err != nil {
			write.Close()
			read.Close()
			return nil, nil, nil, err
		}
	}
	return d, write, read, nil
}

// connect makes the first connection. Several processes that make a file of
// SQLite one with a write-ahead log at the same time are busy with each other.
func connect(ctx context.Context, db *sql.DB, d *dialect) error {
	for {
		err := db.PingContext(ctx)
		if err == nil || !d.again(err) {
			return err
		}
		select {
		case <-time.After(longest):
		case <-ctx.Done():
			return err
		}
	}
}

// openSQLite gives connections to a file. A commit is on disk when it returns;
// with a write-ahead log readers and the writer do not wait for each other.
func openSQLite(path string, most int, lock string, more ...string) (*sql.DB, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	absolute = filepath.ToSlash(absolute)
	if !strings.HasPrefix(absolute, "/") {
		absolute = "/" + absolute // C:/…
	}
	q := url.Values{"_txlock": {lock}, "_pragma": append([]string{
		"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
	}, more...)}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: absolute, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	return db, nil
}

func openPostgres(address string) (*sql.DB, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, err // it leaves passwords out
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	set := func(name, value string) {
		if config.RuntimeParams[name] == "" {
			config.RuntimeParams[name] = value
		}
	}
	set("application_name", "hallcentral")
	set("idle_in_transaction_session_timeout", strconv.FormatInt(IdleLimit.Milliseconds(), 10))
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db, nil
}
