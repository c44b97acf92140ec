package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hallagent/hallagent/central/inbox"
	"github.com/hallagent/hallagent/central/store"
	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/wire"
)

// queue is a central service on SQLite that keeps every record in the order of
// its effect.
type queue struct {
	db *store.DB
	in *inbox.Inbox
}

func startQueue(t *testing.T, broker string) *queue {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "central.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context(), "queue", []string{
		"CREATE TABLE visit (n INTEGER PRIMARY KEY, epoch TEXT NOT NULL, sequence BIGINT NOT NULL, gap BIGINT NOT NULL, device TEXT NOT NULL, came BIGINT NOT NULL, went BIGINT NOT NULL)",
	}); err != nil {
		t.Fatal(err)
	}
	q := &queue{db: db}
	q.in = inbox.New(inbox.Options{
		Service: "queue", Streams: []string{"visits"}, Halls: []wire.Hall{hall}, Store: db, Log: slog.New(slog.DiscardHandler),
		Effect: func(ctx context.Context, tx *sql.Tx, r inbox.Record) error {
			var v wire.Visit
			gap := 0
			if r.Gap != nil {
				gap = 1
			} else if err := json.Unmarshal(r.Event.Data, &v); err != nil {
				return inbox.Reject(err)
			}
			_, err := tx.ExecContext(ctx, "INSERT INTO visit (epoch, sequence, gap, device, came, went) VALUES ($1, $2, $3, $4, $5, $6)",
				r.Epoch, int64(r.Sequence), gap, v.Device, int64(v.In), int64(v.Out))
			return err
		},
	})
	client := mqtt.New(mqtt.Options{
		URL: broker, ClientID: "queue-1", Subscriptions: q.in.Subscriptions(), Handle: q.in.Handle, Log: slog.New(slog.DiscardHandler),
	})
	owned(t, func(ctx context.Context) { client.Run(ctx) })
	owned(t, func(ctx context.Context) { // ends before the client
		if err := q.in.Run(ctx, client); err != nil {
			t.Error(err)
		}
	})
	return q
}

// applied wants records 1, 2, 3… of one epoch, each once and in that order, and
// gives how many, and what they add up to by device.
func (q *queue) applied(t *testing.T) (last uint64, sums map[string][2]uint64) {
	t.Helper()
	sums = map[string][2]uint64{}
	err := q.db.View(context.Background(), func(tx *sql.Tx) error {
		rows, err := tx.Query("SELECT epoch, sequence, gap, device, came, went FROM visit ORDER BY n")
		if err != nil {
			return err
		}
		defer rows.Close()
		first := ""
		for rows.Next() {
			var epoch, device string
			var sequence, gap, came, went int64
			if err := rows.Scan(&epoch, &sequence, &gap, &device, &came, &went); err != nil {
				return err
			}
			if first == "" {
				first = epoch
			}
			if last++; epoch != first || uint64(sequence) != last || gap != 0 {
				t.Fatalf("effect %d is of %s/%d, gap %d", last, epoch, sequence, gap)
			}
			sums[device] = [2]uint64{sums[device][0] + uint64(came), sums[device][1] + uint64(went)}
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return last, sums
}

// count gives how many records had their effect.
func (q *queue) count(t *testing.T) (n uint64) {
	t.Helper()
	err := q.db.View(context.Background(), func(tx *sql.Tx) error {
		return tx.QueryRow("SELECT COUNT(*) FROM visit").Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTortureAgentKilled kills the agent at random moments while people pass eight
// counters and a central service takes the records: each that was accepted has
// its effect once, in order, and the sums are those of the counters.
func TestTortureAgentKilled(t *testing.T) {
	t.Parallel()
	kills := 5
	if os.Getenv("HALLAGENT_TORTURE") != "" {
		kills = 300
	}
	b := mosquitto.Start(t, mosquitto.Options{})
	q := startQueue(t, b.URL)
	w := newWorld(t, b.URL)
	w.poll = 100 * time.Millisecond
	counters := map[string]*sim.ModbusCounter{}
	for _, door := range []string{"D1", "D2", "D3", "D4", "D5", "D6", "D7", "D8"} {
		counters["k-"+door] = w.addCounter(door, true)
	}
	w.configure(", acknowledge: central")
	w.start()
	w.ready()
	eventually(t, 20*time.Second, "the counters are read", w.countersRead)
	base := map[string][2]uint64{}
	for id, k := range counters {
		in, out := k.Totals()
		base[id] = [2]uint64{in, out}
	}
	ctx, rest := context.WithCancel(t.Context())
	rested := make(chan struct{})
	go func() { // ends with rest
		defer close(rested)
		tick := time.NewTicker(200 * time.Millisecond) // a rate that a door can have
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				for _, k := range counters {
					k.Pass(rand.Uint64N(2), rand.Uint64N(8)/7)
				}
			}
		}
	}()
	t.Cleanup(func() { rest(); <-rested })

	random := rand.New(rand.NewPCG(23, 29))
	began := time.Now()
	var back []time.Duration
	sofar := uint64(0)
	for range kills {
		// Some kills come while the agent still starts, the others when its records
		// arrive again.
		if random.IntN(4) == 0 {
			time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
		} else {
			since, more := time.Now(), 1+uint64(random.IntN(10))
			eventually(t, 60*time.Second, "records have their effect", func() error {
				n := q.count(t)
				if n < sofar+more {
					return fmt.Errorf("at %d", n)
				}
				sofar = n
				return nil
			})
			back = append(back, time.Since(since))
			time.Sleep(time.Duration(random.IntN(250)) * time.Millisecond)
		}
		w.kill()
		w.start()
	}
	rest()
	<-rested
	w.ready()
	var records uint64
	eventually(t, 60*time.Second, "every record has its effect and is acknowledged", func() error {
		last, sums := q.applied(t)
		for id, k := range counters {
			in, out := k.Totals()
			if want := [2]uint64{in - base[id][0], out - base[id][1]}; sums[id] != want {
				return fmt.Errorf("%s: %v of %v", id, sums[id], want)
			}
		}
		s, err := w.store()
		if err == nil && (s.Accepted != last || s.AcknowledgedCount != last || s.Last != last) {
			err = fmt.Errorf("%d had their effect, the store says %+v", last, s)
		}
		records = last
		return errors.Join(err, w.balanced(1))
	})
	took := time.Since(began)
	w.stop()
	w.says(0, "verify", "the store is whole")
	slices.Sort(back)
	if len(back) == 0 {
		t.Fatal("no record arrived between the kills")
	}
	t.Logf("killed %d times in %v, %d records, each once and in order; 1 to 10 more arrive after %v in the median, %v at the longest",
		kills, took.Round(time.Millisecond), records, back[len(back)/2].Round(time.Millisecond), back[len(back)-1].Round(time.Millisecond))
}
