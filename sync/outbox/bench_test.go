package outbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
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

// BenchmarkRatioAppend compares the outbox with plain bbolt and with an fdatasync
// after each write to a bare file, all durable, in turns of one run so that the
// disk's mood is the same for all. ratio is the outbox's median rate over that of
// plain bbolt.
func BenchmarkRatioAppend(b *testing.B) {
	for _, size := range []int{300, 1600} {
		for _, writers := range []int{1, 8, 64, 256} {
			b.Run(fmt.Sprintf("%d B, writers: %d", size, writers), func(b *testing.B) { benchAppend(b, size, writers) })
		}
	}
}

func benchAppend(b *testing.B, size, writers int) {
	value := make([]byte, size)
	o, p := start(b, Options{}), newPlain(b)
	bare, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	dones := make([]chan error, writers)
	for i := range dones {
		dones[i] = make(chan error, 1)
	}
	ours := func(int) error { _, err := o.Append(b.Context(), value); return err }
	theirs := func(i int) error { return p.append(value, dones[i]) }
	var one sync.Mutex
	synced := func(int) error {
		one.Lock()
		defer one.Unlock()
		_, err := bare.Write(value)
		return errors.Join(err, dataSync(bare))
	}
	// Each comes after each other one: what one leaves to the disk, the next pays.
	turns := []func(int) error{ours, theirs, synced}
	rates := make([][]float64, len(turns))
	for n := 0; b.Loop(); n++ {
		for i := range turns {
			i = (i*(1+n%2) + n) % len(turns)
			rates[i] = append(rates[i], rate(b, writers, turns[i]))
		}
	}
	a, z, y := rates[0], rates[1], rates[2]
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(a), "ours-appends/s")
	b.ReportMetric(median(z), "bbolt-appends/s")
	b.ReportMetric(median(y), "fdatasync-appends/s")
	b.ReportMetric(median(a)/median(z), "ratio")
	b.ReportMetric(0.9, "aim-min")
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// BenchmarkRatioStart measures how long a store of 1 GiB takes to open, after a
// clean end, against the limit of a second.
func BenchmarkRatioStart(b *testing.B) {
	b.Run("1 GiB", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "visits.db")
		o, stop := startStop(b, Options{Path: path})
		for o.Status().FileBytes < 1<<30 {
			fill(b, o, 100_000, 1600)
		}
		stop()
		var took []float64
		for b.Loop() {
			begin := time.Now()
			o, stop := startStop(b, Options{Path: path})
			took = append(took, time.Since(begin).Seconds())
			if s := o.Status(); s.Begun != "" || s.FileBytes < 1<<30 {
				b.Fatalf("status %+v", s)
			}
			stop()
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(1000*median(took), "ours-ms")
		b.ReportMetric(1000, "limit-ms")
		b.ReportMetric(median(took), "ratio")
		b.ReportMetric(1, "aim-max")
	})
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
