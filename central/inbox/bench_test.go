package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hallagent/hallagent/central/store"
	"github.com/hallagent/hallagent/central/store/postgres"
)

const (
	benchRecords = 20_000 // of one repetition
	benchBatch   = 256
)

// BenchmarkRatioInbox measures how fast records that come in messages of 256 have
// their effect, one INSERT, through Handle. Its peer does nothing but insert the
// same rows, in transactions of 256. Both in turns of one run, with commits that
// are on disk; ratio is the median rate over the peer's.
func BenchmarkRatioInbox(b *testing.B) {
	b.Run(fmt.Sprintf("%d records to SQLite", benchRecords), func(b *testing.B) {
		benchInbox(b, filepath.Join(b.TempDir(), "central.db"))
	})
	b.Run(fmt.Sprintf("%d records to PostgreSQL", benchRecords), func(b *testing.B) {
		benchInbox(b, postgres.Start(b, postgres.Options{Durable: true}).Database())
	})
}

func benchInbox(b *testing.B, url string) {
	w := newWorld(b, url)
	db := w.open()
	l := w.begin("a", write, false)
	eventually(b, 10*time.Second, "the hall is served", func() bool {
		w.publish(hallOne.Status(), []byte("{}"))
		return l.serves() == 1
	})
	var ours, theirs []float64
	for b.Loop() {
		messages := benchMessages(uint64(l.books(hallOne).Mark))
		ours = append(ours, benchRecords/benchOurs(b, w, l, messages).Seconds())
		theirs = append(theirs, benchRecords/benchTheirs(b, db).Seconds())
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours[len(ours)/2], "ours-records/s")
	b.ReportMetric(theirs[len(theirs)/2], "bare-records/s")
	b.ReportMetric(ours[len(ours)/2]/theirs[len(theirs)/2], "ratio")
}

// benchMessages are the next messages of a stream.
func benchMessages(mark uint64) (messages [][]byte) {
	for s := mark + 1; s <= mark+benchRecords; s += benchBatch {
		var items []item
		for i := s; i < min(s+benchBatch, mark+benchRecords+1); i++ {
			items = append(items, item{epoch: first, sequence: i})
		}
		messages = append(messages, encode(hallOne, items))
	}
	return messages
}

// benchOurs hands over messages, no more at once than wait without being dropped.
func benchOurs(b *testing.B, w *world, l *link, messages [][]byte) time.Duration {
	begin, upto := time.Now(), l.books(hallOne).Mark+benchRecords
	for _, m := range messages {
		for waiting(l) > 32 {
			time.Sleep(100 * time.Microsecond)
		}
		w.publish(hallOne.Stream("visits"), m)
	}
	for l.books(hallOne).Mark < upto {
		if time.Since(begin) > time.Minute {
			b.Fatalf("%+v", l.books(hallOne))
		}
		time.Sleep(100 * time.Microsecond)
	}
	return time.Since(begin)
}

func waiting(l *link) int { return l.in.Status().Halls[0].Waiting }

// benchTheirs inserts rows like those of the effect.
func benchTheirs(b *testing.B, db *store.DB) time.Duration {
	begin := time.Now()
	for s := 1; s <= benchRecords; s += benchBatch {
		err := db.Tx(context.Background(), func(tx *sql.Tx) error {
			for i := s; i < min(s+benchBatch, benchRecords+1); i++ {
				r := Record{Hall: hallOne, Stream: "visits", Epoch: first, Sequence: uint64(i)}
				if err := write(context.Background(), tx, r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begin)
}
