package uplink

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/outbox"
)

// BenchmarkDrain sends a backlog of 50 000 records of 300 bytes from disk to a
// real broker, until the last is acknowledged on disk.
func BenchmarkDrain(b *testing.B) {
	const records = 50_000
	log := slog.New(slog.DiscardHandler)
	broker := mosquitto.Start(b, mosquitto.Options{})
	var total time.Duration
	for i := range b.N {
		b.StopTimer()
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(context.Background())
		box := outbox.New(outbox.Options{Path: filepath.Join(b.TempDir(), "visits.db"), Stream: "visits", Log: log,
			NewEpoch: func() (string, error) { return epoch, nil }})
		wg.Go(func() { box.Run(ctx) })
		<-box.Opened()
		value := make([]byte, 300)
		var writers sync.WaitGroup
		for range 500 {
			writers.Go(func() {
				for range records / 500 {
					if _, err := box.Append(ctx, value); err != nil {
						b.Error(err)
					}
				}
			})
		}
		writers.Wait()
		client := mqtt.New(mqtt.Options{URL: broker.URL, ClientID: fmt.Sprint("drain", i), Log: log})
		up := New(Options{Outbox: box, Publisher: client, Topic: "visits", Log: log,
			Encode: func(records []outbox.Record, _ bool) ([]byte, error) {
				var payload []byte
				for _, r := range records {
					payload = append(payload, r.Value...)
				}
				return payload, nil
			}})
		wg.Go(func() { client.Run(ctx) })
		if _, err := client.Session(ctx); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		begin := time.Now()
		wg.Go(func() { up.Run(ctx) })
		if err := up.Flush(ctx); err != nil {
			b.Fatal(err)
		}
		total += time.Since(begin)
		b.StopTimer()
		cancel()
		wg.Wait()
	}
	b.ReportMetric(records*float64(b.N)/total.Seconds(), "records/s")
}
