package store

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations is the table that says which steps were taken.
const migrations = `CREATE TABLE IF NOT EXISTS store_migration (
	package TEXT   NOT NULL,
	version BIGINT NOT NULL,
	at      BIGINT NOT NULL,
	PRIMARY KEY (package, version))`

// Migrate brings the tables of a package up to date. A step is one or more SQL
// statements; its version is its place in steps, from 1, and a step that was
// released is never changed. In a step {id} stands for the type of a key that
// counts by itself, {bytes} for that of bytes. All is done in one transaction,
// one instance at a time: either all steps that lack are taken, or none.
func (d *DB) Migrate(ctx context.Context, name string, steps []string) error {
	err := d.Tx(ctx, func(tx *sql.Tx) error {
		if d.only != "" {
			if _, err := tx.ExecContext(ctx, d.only); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, migrations); err != nil {
			return err
		}
		var have int
		err := tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(version), 0) FROM store_migration WHERE package = $1", name).Scan(&have)
		if err != nil {
			return err
		}
		if have > len(steps) {
			return fmt.Errorf("the database is at version %d, this program knows %d: use the newer program", have, len(steps))
		}
		for version := have + 1; version <= len(steps); version++ {
			if _, err := tx.ExecContext(ctx, d.words.Replace(steps[version-1])); err != nil {
				return fmt.Errorf("version %d: %w", version, err)
			}
			_, err := tx.ExecContext(ctx, "INSERT INTO store_migration (package, version, at) VALUES ($1, $2, "+d.Now()+")", name, version)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("migrate %s: %w", name, err)
	}
	return nil
}
