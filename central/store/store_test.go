package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/central/store"
	"github.com/hallagent/hallagent/central/store/postgres"
)

// onBoth runs a test on SQLite and on PostgreSQL, each time with the URL of an
// empty database.
func onBoth(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) {
		f(t, "sqlite://"+filepath.Join(t.TempDir(), "a folder of 100%", "..", "central.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		f(t, postgres.Start(t, postgres.Options{Extra: []string{"deadlock_timeout=50ms"}}).Database())
	})
}

func open(t *testing.T, url string) *store.DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	db, err := store.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func exec(t *testing.T, db *store.DB, statement string, args ...any) {
	t.Helper()
	err := db.Tx(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), statement, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, db *store.DB, query string, args ...any) (n int64) {
	t.Helper()
	err := db.View(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), query, args...).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestStore(t *testing.T) {
	onBoth(t, func(t *testing.T, url string) {
		migrates(t, url)
		db := open(t, url)
		if !strings.Contains(t.Name(), db.String()) {
			t.Errorf("the database calls itself %s", db)
		}
		commitsOrNot(t, db)
		serializes(t, db, open(t, url))
		readsWhileWriting(t, db)
		tells(t, db)
	})
}

// migrates lets several instances start at once, and then a newer and an older
// program.
func migrates(t *testing.T, url string) {
	steps := []string{
		"CREATE TABLE thing (id {id}, name TEXT NOT NULL, raw {bytes}); CREATE UNIQUE INDEX thing_name ON thing (name)",
		"INSERT INTO thing (name) VALUES ('one')",
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			db, err := store.Open(t.Context(), url)
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			if err := db.Migrate(t.Context(), "things", steps); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	db := open(t, url)
	bad := append(steps[:2:2], "INSERT INTO thing (name) VALUES ('two')", "INSERT INTO nothing VALUES (1)")
	if err := db.Migrate(t.Context(), "things", bad); err == nil || !strings.Contains(err.Error(), "version 4") {
		t.Errorf("a bad step: %v", err)
	}
	if n := number(t, db, "SELECT COUNT(*) FROM thing"); n != 1 {
		t.Errorf("%d things, want 1: steps are taken once, and all or none", n)
	}
	if err := db.Migrate(t.Context(), "things", append(steps[:2:2], "INSERT INTO thing (name, raw) VALUES ('two', NULL)")); err != nil {
		t.Error(err)
	}
	if err := db.Migrate(t.Context(), "things", steps); err == nil || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("an older program: %v", err)
	}
	if err := db.Migrate(t.Context(), "others", []string{"CREATE TABLE other (id {id}, n BIGINT NOT NULL)"}); err != nil {
		t.Error(err)
	}
	if n := number(t, db, "SELECT MAX(id) - MIN(id) FROM thing"); n < 1 {
		t.Errorf("ids grow by %d", n)
	}
}

func commitsOrNot(t *testing.T, db *store.DB) {
	raw := []byte{0, 1, 0xff}
	exec(t, db, "INSERT INTO thing (name, raw) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET raw = $2", "one", raw)
	errSome := errors.New("some")
	err := db.Tx(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), "DELETE FROM thing"); err != nil {
			return err
		}
		return errSome
	})
	if err != errSome {
		t.Errorf("error %v", err)
	}
	var got []byte
	err = db.View(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), "SELECT raw FROM thing WHERE name = $1", "one").Scan(&got)
	})
	if err != nil || string(got) != string(raw) {
		t.Errorf("bytes %x, %v", got, err)
	}
	err = db.View(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "DELETE FROM thing")
		return err
	})
	if err == nil {
		t.Error("a View deleted")
	}
}

// serializes lets two instances add to the same numbers, locking rows in opposite
// order, which PostgreSQL ends as a deadlock and Tx tries again.
func serializes(t *testing.T, a, b *store.DB) {
	exec(t, a, "INSERT INTO other (n) VALUES (0), (0)")
	const rounds = 30
	var wg sync.WaitGroup
	for i, db := range []*store.DB{a, b} {
		order := []int{1 + i, 2 - i}
		wg.Go(func() {
			for range rounds {
				err := db.Tx(t.Context(), func(tx *sql.Tx) error {
					for _, id := range order {
						var n int64
						if err := tx.QueryRowContext(t.Context(), "SELECT n FROM other WHERE id = $1"+db.ForUpdate(), id).Scan(&n); err != nil {
							return fmt.Errorf("read: %w", err)
						}
						if _, err := tx.ExecContext(t.Context(), "UPDATE other SET n = $1 WHERE id = $2", n+1, id); err != nil {
							return fmt.Errorf("write: %w", err)
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := number(t, a, "SELECT SUM(n) FROM other"); n != 4*rounds {
		t.Errorf("sum %d, want %d", n, 4*rounds)
	}
}

func readsWhileWriting(t *testing.T, db *store.DB) {
	err := db.Tx(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), "UPDATE other SET n = 0"); err != nil {
			return err
		}
		if n := number(t, db, "SELECT SUM(n) FROM other"); n == 0 {
			t.Error("a reader sees what is not committed")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func tells(t *testing.T, db *store.DB) {
	now := time.UnixMilli(number(t, db, "SELECT "+db.Now()))
	if d := time.Since(now).Abs(); d > 5*time.Second {
		t.Errorf("the database's clock is %v off, on the same machine", d)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{"mysql://host/db", "sqlite://", "sqlite:///tmp/a?mode=memory", filepath.Join(t.TempDir(), "no folder", "x.db"),
		"postgres://127.0.0.1:1/none?connect_timeout=2"} {
		if db, err := store.Open(t.Context(), url); err == nil {
			db.Close()
			t.Errorf("%s opened", url)
		}
	}
}

// A transaction that stands still at PostgreSQL loses its locks, and cannot
// commit any more.
func TestIdle(t *testing.T) {
	s := postgres.Start(t, postgres.Options{})
	db, other := open(t, s.URL), open(t, s.Socket)
	if err := db.Migrate(t.Context(), "others", []string{"CREATE TABLE other (n BIGINT)", "INSERT INTO other VALUES (1)"}); err != nil {
		t.Fatal(err)
	}
	err := db.Tx(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), "UPDATE other SET n = 2"); err != nil {
			return err
		}
		begin := time.Now()
		exec(t, other, "UPDATE other SET n = n + 10") // waits for the lock
		if took := time.Since(begin); took > store.IdleLimit+time.Second {
			t.Errorf("the lock was held for %v", took)
		}
		return nil
	})
	if err == nil {
		t.Error("it was committed")
	}
	if n := number(t, other, "SELECT n FROM other"); n != 11 {
		t.Errorf("%d, want 11", n)
	}
}

// What was committed before a crash is there after it.
func TestCrash(t *testing.T) {
	s := postgres.Start(t, postgres.Options{Durable: true})
	db := open(t, s.URL)
	exec(t, db, "CREATE TABLE other (n BIGINT)")
	for range 3 {
		exec(t, db, "INSERT INTO other VALUES (1)")
		s.Kill()
		if err := db.View(t.Context(), func(*sql.Tx) error { return nil }); err == nil {
			t.Error("a killed server answers")
		}
		s.Restart()
	}
	if n := number(t, db, "SELECT COUNT(*) FROM other"); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}
