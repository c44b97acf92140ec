package inbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hallagent/hallagent/central/inbox"
	"github.com/hallagent/hallagent/central/store"
	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/wire"
)

// count adds the visits of a record to its door, in the transaction of the inbox.
func count(ctx context.Context, tx *sql.Tx, r inbox.Record) error {
	if r.Gap != nil {
		return nil // the books of the inbox hold what is missing
	}
	var v wire.Visit
	if err := json.Unmarshal(r.Event.Data, &v); err != nil {
		return inbox.Reject(err) // it will never be a visit
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO door (hall, door, visits) VALUES ($1, $2, $3)
		ON CONFLICT (hall, door) DO UPDATE SET visits = door.visits + $3`, r.Hall.ID, v.Door, int64(v.In))
	return err
}

// A consumer that counts visits by door. Run it beside a broker as any number of
// instances; with postgres:// in place of the path, on as many machines.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	db, err := store.Open(ctx, "sqlite:///var/lib/counting/visits.db")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(ctx, "counting", []string{
		"CREATE TABLE door (hall TEXT NOT NULL, door TEXT NOT NULL, visits BIGINT NOT NULL, PRIMARY KEY (hall, door))",
	}); err != nil {
		log.Fatal(err)
	}
	in := inbox.New(inbox.Options{
		Service: "counting", Streams: []string{"visits"}, Store: db, Effect: count, Log: slog.Default(),
	})
	client := mqtt.New(mqtt.Options{
		URL: "mqtt://127.0.0.1:1883", ClientID: "counting-1",
		Subscriptions: in.Subscriptions(), Handle: in.Handle, Log: slog.Default(),
	})
	broker, hangUp := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- client.Run(broker) }() // the client outlives the inbox
	if err := in.Run(ctx, client); err != nil {
		log.Print(err)
	}
	hangUp()
	<-ended
}

// loop is a broker in memory: it shows what the consumer says.
type loop struct{ said chan string }

func (l loop) Session(ctx context.Context) (context.Context, error)       { return ctx, nil }
func (l loop) Publish(context.Context, string, bool, []byte, func(error)) {}
func (l loop) Retain(topic string, payload []byte)                        { l.said <- topic + " " + string(payload) }
func (l loop) Forget(topic string)                                        {}

// The same effect without a broker: messages go in by Handle, as a client would
// hand them over, and what is acknowledged comes out.
func ExampleInbox_Handle() {
	ctx, stop := context.WithCancel(context.Background())
	dir, err := os.MkdirTemp("", "counting")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := store.Open(ctx, filepath.Join(dir, "visits.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(ctx, "counting", []string{
		"CREATE TABLE door (hall TEXT NOT NULL, door TEXT NOT NULL, visits BIGINT NOT NULL, PRIMARY KEY (hall, door))",
	}); err != nil {
		log.Fatal(err)
	}
	hall := wire.Hall{Area: "371003", ID: "wendeng"}
	in := inbox.New(inbox.Options{
		Service: "counting", Streams: []string{"visits"}, Halls: []wire.Hall{hall},
		Store: db, Effect: count, Log: slog.New(slog.DiscardHandler),
	})
	broker := loop{said: make(chan string, 16)}
	ended := make(chan error)
	go func() { ended <- in.Run(ctx, broker) }()
	for !serving(in) { // until it has the lease of the hall
	}

	event := func(sequence, visitors int) string {
		return fmt.Sprintf(`{"specversion":"1.0","type":"hall.visit.v1","stream":"visits","epoch":"000001-9f3a77c2",`+
			`"sequence":"%020d","data":{"door":"D1","in":%d}}`, sequence, visitors)
	}
	in.Handle(hall.Stream("visits"), []byte("["+event(1, 2)+","+event(2, 1)+"]"), false)
	fmt.Println(<-broker.said)
	in.Handle(hall.Stream("visits"), []byte(event(2, 1)), false) // once more: no effect, the same answer
	fmt.Println(<-broker.said)
	stop()
	<-ended

	var visits int
	err = db.View(context.Background(), func(tx *sql.Tx) error {
		return tx.QueryRow("SELECT visits FROM door WHERE door = 'D1'").Scan(&visits)
	})
	fmt.Println(visits, err)
	// Output:
	// hall/v1/371003/wendeng/ack/visits {"epoch":"000001-9f3a77c2","upto":2}
	// hall/v1/371003/wendeng/ack/visits {"epoch":"000001-9f3a77c2","upto":2}
	// 3 <nil>
}

func serving(in *inbox.Inbox) bool {
	for _, h := range in.Status().Halls {
		if h.Serving {
			return true
		}
	}
	return false
}
