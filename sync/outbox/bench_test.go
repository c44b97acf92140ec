package outbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// plain is the peer of the benchmark: bbolt alone, one goroutine that commits
// whatever waits, nothing kept but key and value. It fills pages and gathers a
// commit as the outbox does, or the outbox would win by that alone.
type plain struct {
	db   *bolt.DB
	in   chan plainRequest
	done sync.WaitGroup
}

type plainRequest struct {
	value []byte
	done  chan error
}

func newPlain(b *testing.B) *plain {
	db, err := bolt.Open(filepath.Join(b.TempDir(), "plain.db"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType})
	if err != nil {
		b.Fatal(err)
	}
	p := &plain{db: db, in: make(chan plainRequest, 1024)}
	p.done.Go(p.run)
	b.Cleanup(func() {
		close(p.in)
		p.done.Wait()
		db.Close()
	})
	return p
}

func (p *plain) run() {
	name, seq := []byte("records"), uint64(0)
	for first := range p.in {
		runtime.Gosched()
		waiting := []plainRequest{first}
		for range len(p.in) {
			waiting = append(waiting, <-p.in)
		}
		err := p.db.Update(func(tx *bolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists(name)
			if err != nil {
				return err
			}
			bucket.FillPercent = 1
			for _, r := range waiting {
				seq++
				if err := bucket.Put(binary.BigEndian.AppendUint64(nil, seq), r.value); err != nil {
					return err
				}
			}
			return nil
		})
		for _, r := range waiting {
			r.done <- err
		}
	}
}

func (p *plain) append(value []byte, done chan error) error {
	p.in <- plainRequest{value, done}
	return <-done
}

// BenchmarkRatioAppend compares the outbox with plain bbolt, both durable, in
// turns of one run so that the disk's mood is the same for both. ratio is the
// outbox's median rate over the peer's.
func BenchmarkRatioAppend(b *testing.B) {
	value := make([]byte, 300)
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("300 B, writers: %d", writers), func(b *testing.B) {
			o := start(b, Options{})
			p := newPlain(b)
			dones := make([]chan error, writers)
			for i := range dones {
				dones[i] = make(chan error, 1)
			}
			ours := func(int) error { _, err := o.Append(b.Context(), value); return err }
			theirs := func(i int) error { return p.append(value, dones[i]) }
			var a, z []float64
			for b.Loop() {
				a = append(a, rate(b, writers, ours))
				z = append(z, rate(b, writers, theirs))
			}
			slices.Sort(a)
			slices.Sort(z)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(a[len(a)/2], "ours-appends/s")
			b.ReportMetric(z[len(z)/2], "bbolt-appends/s")
			b.ReportMetric(a[len(a)/2]/z[len(z)/2], "ratio")
			b.ReportMetric(0.8, "aim-min")
		})
	}
}

// rate measures appends per second of so many writers over 200 ms.
func rate(b *testing.B, writers int, write func(i int) error) float64 {
	var wg sync.WaitGroup
	counts, errs := make([]int, writers), make([]error, writers)
	begin := time.Now()
	for i := range writers {
		wg.Go(func() {
			for time.Since(begin) < 200*time.Millisecond {
				if errs[i] = write(i); errs[i] != nil {
					return
				}
				counts[i]++
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / took.Seconds()
}
