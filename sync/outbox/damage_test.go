package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

func TestDamagedRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	o, stop := startStop(t, Options{Path: path})
	for i := range 30 {
		add(t, o, fmt.Sprintf("value number %02d", i+1))
	}
	stop()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []int{5, 6, 7, 20, 30} {
		flipped := bytes.Replace(b, fmt.Appendf(nil, "value number %02d", seq), fmt.Appendf(nil, "value numbeR %02d", seq), -1)
		if bytes.Equal(flipped, b) {
			t.Fatal("value not found in the file")
		}
		b = flipped
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}

	var log bytes.Buffer
	o, stop = startStop(t, Options{Path: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	records := all(t, o)
	for _, r := range records {
		if strings.Contains(string(r.Value), "numbeR") {
			t.Errorf("damaged record delivered: %q", r.Value)
		}
	}
	want := []string{"7: 5-7 3 corruption", "20: 20-20 1 corruption", "30: 30-30 1 corruption"}
	// Neighbours join as they are found: a reader who is quick may have seen the
	// first of them alone. What is on disk at the end is joined.
	if final := gapsOf(all(t, o)); fmt.Sprint(final) != fmt.Sprint(want) {
		t.Errorf("gaps %v, want %v", final, want)
	}
	s := o.Status()
	if s.Dropped[ReasonCorruption] != 5 || s.Pending != 25 || s.Gaps != 3 {
		t.Errorf("status %+v", s)
	}
	balance(t, o)
	if err := o.Acknowledge(t.Context(), Position{s.Epoch, 30}); err != nil {
		t.Fatal(err)
	}
	if s := o.Status(); s.Pending != 0 || s.Gaps != 0 || s.AcknowledgedCount != 25 {
		t.Errorf("after all was acknowledged: %+v", s)
	}
	stop()
	if n := strings.Count(log.String(), "record damaged"); n != 5 {
		t.Errorf("%d damaged records logged:\n%s", n, log.String())
	}
}

func gapsOf(records []Record) []string {
	var gaps []string
	for _, r := range records {
		if g := r.Gap; g != nil {
			gaps = append(gaps, fmt.Sprintf("%d: %d-%d %d %s", r.Seq, g.From, g.To, g.Count, g.Reason))
		}
	}
	return gaps
}

func TestMaxSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	const one = 100 + headerSize + 8
	o, stop := startStop(t, Options{Path: path, MaxSize: 10 * one})
	for range 25 {
		add(t, o, strings.Repeat("v", 100))
	}
	settled(t, o)
	if got, want := fmt.Sprint(gapsOf(all(t, o))), "[15: 1-15 15 size]"; got != want {
		t.Errorf("gaps %s, want %s", got, want)
	}
	balance(t, o)
	// What was sent before it was dropped may be acknowledged in the midst of a gap.
	if err := o.Acknowledge(t.Context(), Position{o.Status().Epoch, 12}); err != nil {
		t.Fatal(err)
	}
	if err := o.Acknowledge(t.Context(), Position{o.Status().Epoch, 17}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		add(t, o, strings.Repeat("v", 100))
	}
	settled(t, o)
	if got, want := fmt.Sprint(gapsOf(all(t, o))), "[20: 18-20 3 size]"; got != want {
		t.Errorf("gaps %s, want %s", got, want)
	}
	balance(t, o)
	stop()
	o = start(t, Options{Path: path, MaxSize: 1}) // a smaller limit after a restart; the newest stays
	settled(t, o)
	if s := o.Status(); s.Pending != 1 || s.Dropped[ReasonSize] != 27 || s.First != 18 {
		t.Errorf("status %+v", s)
	}
	balance(t, o)
}

// Whatever is appended, acknowledged, dropped, damaged or restarted, in any
// order: the books balance and every sequence is accounted for.
func TestBooks(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			opts := Options{Path: filepath.Join(t.TempDir(), "visits.db"), MaxSize: 4000}
			o, stop := startStop(t, opts)
			for range 150 {
				switch s := o.Status(); random.IntN(12) {
				case 0:
					stop()
					o, stop = startStop(t, opts)
				case 1, 2:
					upto := s.Acknowledged + random.Uint64N(s.Last-s.Acknowledged+1)
					if err := o.Acknowledge(t.Context(), Position{s.Epoch, upto}); err != nil {
						t.Fatal(err)
					}
				case 3:
					damage(t, o, s.First+random.Uint64N(s.Last+2-s.First))
				default:
					add(t, o, strings.Repeat("x", random.IntN(400)))
				}
				balance(t, o)
				next := o.Status().First
				for _, r := range all(t, o) {
					if r.Gap == nil && r.Seq != next || r.Gap != nil && (r.Gap.From > next || r.Gap.To < next || r.Seq != r.Gap.To) {
						t.Fatalf("expected %d, got %d %+v", next, r.Seq, r.Gap)
					}
					next = r.Seq + 1
				}
				if next != o.Status().Last+1 {
					t.Fatalf("records end before %d, last is %d", next, o.Status().Last)
				}
			}
		})
	}
}

// damage flips a byte of a value on disk.
func damage(t *testing.T, o *Outbox, seq uint64) {
	t.Helper()
	o.mu.RLock()
	defer o.mu.RUnlock()
	err := o.handle.db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(epochBucket(o.Status().Epoch))
		b := bytes.Clone(bucket.Get(key(seq)))
		if b == nil || kindOf(b) != kindValue {
			return nil
		}
		b[len(b)-1] ^= 0x40
		return bucket.Put(key(seq), b)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSalvagedEpochGoesFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	o, stop := startStop(t, Options{Path: path, NewEpoch: func(string) (string, string, error) { return "000002-00000002", "", nil }})
	add(t, o, "new")
	const old = "000001-00000001"
	err := o.handle.db.Update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucket(epochBucket(old))
		if err != nil {
			return err
		}
		for seq := uint64(7); seq < 10; seq++ {
			if err := put(bucket, epochBucket(old), 1, seq, encodeValue(time.Now(), []byte("old"))); err != nil {
				return err
			}
		}
		var s state
		if s, err = stateOf(tx); err != nil {
			return err
		}
		s.Epochs = append([]span{{Epoch: old, Acknowledged: 6, Last: 9}}, s.Epochs...)
		s.Accepted, s.Pending, s.PendingBytes = s.Accepted+3, s.Pending+3, s.PendingBytes+3*(3+headerSize+8)
		return s.save(tx)
	})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	o = start(t, Options{Path: path})
	var got []string
	for _, r := range all(t, o) {
		got = append(got, fmt.Sprintf("%s/%d", r.Epoch, r.Seq))
	}
	if want := "[000001-00000001/7 000001-00000001/8 000001-00000001/9 000002-00000002/1]"; fmt.Sprint(got) != want {
		t.Errorf("read %v", got)
	}
	balance(t, o)
	if err := o.Acknowledge(t.Context(), Position{old, 9}); err != nil {
		t.Fatal(err)
	}
	if s := o.Status(); s.Pending != 1 || s.Acknowledged != 0 || s.AcknowledgedCount != 3 {
		t.Errorf("status %+v", s)
	}
	if err := o.Acknowledge(t.Context(), Position{old, 9}); !errors.Is(err, ErrNoRecord) {
		t.Errorf("an epoch that is over: %v", err)
	}
}

// While the disk cannot take a new store, the damaged one stays where it is.
func TestSalvageNeedsDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	if err := os.WriteFile(path, make([]byte, 32<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("no numbers today")
	fails := true
	numbers := newEpoch()
	o := New(Options{Path: path, Stream: "visits", Log: quiet(), NewEpoch: func(string) (string, string, error) {
		if fails {
			return "", "", broken
		}
		return numbers("")
	}})
	if _, err := salvage(path, o.opts, nil, errPages); !errors.Is(err, broken) {
		t.Fatalf("salvage: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || len(b) != 32<<10 {
		t.Errorf("the file was touched: %v", err)
	}
	fails = false
	o.retry = 10 * time.Millisecond
	run(t, o)
	<-o.Opened()
	if s := o.Status(); s.Begun != Salvaged || len(s.Damages) != 1 || !s.Damages[0].Open {
		t.Errorf("status %+v", s)
	}
	if _, err := o.Append(context.Background(), []byte("x")); err != nil {
		t.Error(err)
	}
	// Whoever has looked at it moves it away, while the store is in use.
	aside := o.Status().Damages[0].File
	if err := os.Rename(aside, filepath.Join(t.TempDir(), "aside.db")); err != nil {
		t.Fatal(err)
	}
	until(t, o, "without damage", func(s Status) bool { return len(s.Damages) == 0 })
}
