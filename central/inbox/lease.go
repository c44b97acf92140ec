package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallagent/hallagent/sync/wire"
)

// lease says who serves a hall. token grows with each holder, and is what tells
// a holder of before.
type lease struct {
	hall   wire.Hall
	holder string
	token  int64
	left   time.Duration // until it ends, by the database's clock
	free   bool
}

// plan is what an instance has to do about the leases.
type plan struct{ take, release []lease }

// share decides who serves what. Of n halls and k instances each has n/k, and
// the first n mod k, by name, one more: together that is all of them, so nobody
// gives a hall away that nobody takes. It moves no hall while the instances stay
// the same.
func share(me string, instances []string, leases []lease) (p plan) {
	instances = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(instances), me))))
	rank := slices.Index(instances, me)
	fair := len(leases) / len(instances)
	if rank < len(leases)%len(instances) {
		fair++
	}
	var mine, free []lease
	for _, l := range leases {
		switch {
		case l.holder == me:
			mine = append(mine, l)
		case l.free:
			free = append(free, l)
		}
	}
	switch n := fair - len(mine); {
	case n < 0:
		p.release = mine[fair:]
	case len(free) > 0: // not all from the same end
		start := rank * len(free) / len(instances)
		p.take = append(free[start:len(free):len(free)], free[:start]...)[:min(n, len(free))]
	}
	return p
}

// free is what the row of a lease must be to be taken, $1 being twice its life.
// One that would live longer than it can is from before the database's clock was
// set back; that much of it may be a clock that is being adjusted.
func (in *Inbox) free() string {
	now := in.opts.Store.Now()
	return "(holder = '' OR expires < " + now + " OR expires > " + now + " + $1)"
}

// look reads the leases and which instances are alive.
func (in *Inbox) look(ctx context.Context) (leases []lease, instances []string, err error) {
	db, now := in.opts.Store, in.opts.Store.Now()
	err = db.View(ctx, func(tx *sql.Tx) error {
		leases, instances = nil, nil
		rows, err := tx.QueryContext(ctx, "SELECT hall, holder, token, expires - "+now+", CASE WHEN "+in.free()+" THEN 1 ELSE 0 END FROM inbox_lease WHERE service = $2 ORDER BY hall",
			2*in.leaseLife.Milliseconds(), in.opts.Service)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var l lease
			var hall string
			var left, free int64
			if err := rows.Scan(&hall, &l.holder, &l.token, &left, &free); err != nil {
				return err
			}
			l.hall.Area, l.hall.ID, _ = strings.Cut(hall, "/")
			l.left, l.free = time.Duration(left)*time.Millisecond, free == 1
			if len(in.opts.Halls) == 0 || slices.Contains(in.opts.Halls, l.hall) {
				leases = append(leases, l)
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		others, err := tx.QueryContext(ctx, "SELECT instance FROM inbox_instance WHERE service = $1 AND seen > "+now+" - $2 AND seen <= "+now+" + $2", in.opts.Service, in.leaseLife.Milliseconds())
		if err != nil {
			return err
		}
		defer others.Close()
		for others.Next() {
			var instance string
			if err := others.Scan(&instance); err != nil {
				return err
			}
			instances = append(instances, instance)
		}
		return others.Err()
	})
	return leases, instances, err
}

// renew says that this instance is alive, and keeps its leases. One whose row is
// held by a transaction is just being renewed by it, see fence.
func (in *Inbox) renew(ctx context.Context, tx *sql.Tx) error {
	db := in.opts.Store
	_, err := tx.ExecContext(ctx, "INSERT INTO inbox_instance (service, instance, seen) VALUES ($1, $2, "+db.Now()+
		") ON CONFLICT (service, instance) DO UPDATE SET seen = "+db.Now(), in.opts.Service, in.opts.Instance)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE inbox_lease SET expires = "+db.Now()+" + $1 WHERE service = $2 AND holder = $3 AND hall IN "+
		"(SELECT hall FROM inbox_lease WHERE service = $2 AND holder = $3"+db.ForUpdateFree()+")",
		in.leaseLife.Milliseconds(), in.opts.Service, in.opts.Instance)
	return err
}

// take makes a free lease ours, unless another was first or the holder of before
// is just in a transaction.
func (in *Inbox) take(ctx context.Context, tx *sql.Tx, l lease) (bool, error) {
	db := in.opts.Store
	var one int
	err := tx.QueryRowContext(ctx, "SELECT 1 FROM inbox_lease WHERE service = $2 AND hall = $3 AND token = $4 AND "+in.free()+db.ForUpdateFree(),
		2*in.leaseLife.Milliseconds(), in.opts.Service, name(l.hall), l.token).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = tx.ExecContext(ctx, "UPDATE inbox_lease SET holder = $1, token = token + 1, expires = "+db.Now()+" + $2 WHERE service = $3 AND hall = $4",
		in.opts.Instance, in.leaseLife.Milliseconds(), in.opts.Service, name(l.hall))
	return err == nil, err
}

// release gives a lease of ours back; one that is no longer ours stays as it is.
func (in *Inbox) release(ctx context.Context, h wire.Hall, token int64) error {
	return in.opts.Store.Tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE inbox_lease SET holder = '', expires = 0 WHERE service = $1 AND hall = $2 AND holder = $3 AND token = $4",
			in.opts.Service, name(h), in.opts.Instance, token)
		return err
	})
}

// fence begins a transaction for a hall: it fails when the lease is no longer
// ours, renews it, and keeps it ours until the transaction ends.
func (in *Inbox) fence(ctx context.Context, tx *sql.Tx, h wire.Hall, token int64) error {
	r, err := tx.ExecContext(ctx, "UPDATE inbox_lease SET expires = "+in.opts.Store.Now()+" + $1 WHERE service = $2 AND hall = $3 AND holder = $4 AND token = $5",
		in.leaseLife.Milliseconds(), in.opts.Service, name(h), in.opts.Instance, token)
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		err = errLost
	}
	return err
}

// write puts newly found halls into the table of leases.
func (in *Inbox) write(ctx context.Context, tx *sql.Tx, halls []wire.Hall) error {
	for _, h := range halls {
		_, err := tx.ExecContext(ctx, "INSERT INTO inbox_lease (service, hall, holder, token, expires) VALUES ($1, $2, '', 0, 0) ON CONFLICT (service, hall) DO NOTHING",
			in.opts.Service, name(h))
		if err != nil {
			return err
		}
	}
	return nil
}

// adopt makes what an instance of the same name held before ours, and locks that
// one out, should it still live.
func (in *Inbox) adopt(ctx context.Context) error {
	err := in.opts.Store.Tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE inbox_lease SET token = token + 1 WHERE service = $1 AND holder = $2", in.opts.Service, in.opts.Instance)
		return err
	})
	if err != nil {
		return fmt.Errorf("adopt leases: %w", err)
	}
	return nil
}

// leave says that this instance is not alive any more.
func (in *Inbox) leave(ctx context.Context) error {
	return in.opts.Store.Tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM inbox_instance WHERE service = $1 AND (instance = $2 OR seen < "+in.opts.Store.Now()+" - $3)",
			in.opts.Service, in.opts.Instance, time.Hour.Milliseconds())
		return err
	})
}
