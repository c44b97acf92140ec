package uplink

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/hallagent/hallagent/sync/outbox"
)

const newEpoch = "000002-00000002"

// store is an outbox that a test can stop, replace and start again.
type store struct {
	*testing.T
	path string
	from string // what replace saves from
	box  *outbox.Outbox
	stop func()
}

func newStore(t *testing.T) *store {
	path := filepath.Join(t.TempDir(), "visits.db")
	epochs := []string{epoch, newEpoch}
	s := &store{T: t, path: path, from: path}
	s.box = outbox.New(outbox.Options{Path: path, Stream: "visits", Log: slog.New(slog.DiscardHandler),
		NewEpoch: func(string) (next, before string, err error) {
			next, epochs = epochs[0], epochs[1:]
			return next, "", nil
		}})
	s.run()
	<-s.box.Opened()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *store) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.box.Run(ctx) })
	s.stop = func() { cancel(); wg.Wait() }
}

func (s *store) add(values ...string) {
	s.Helper()
	for _, v := range values {
		if _, err := s.box.Append(context.Background(), []byte(v)); err != nil {
			s.Fatal(err)
		}
	}
}

// remember keeps the file as it is, for replace.
func (s *store) remember() {
	s.Helper()
	s.stop()
	content, err := os.ReadFile(s.path)
	if err == nil {
		s.from = s.path + ".old"
		err = os.WriteFile(s.from, content, 0o600)
	}
	if err != nil {
		s.Fatal(err)
	}
	s.run()
	time.Sleep(time.Second)
	synctest.Wait()
}

// replace damages the store, all of its records that do not match and its free
// list, so that it is salvaged into a new epoch.
func (s *store) replace(saved func(seq uint64) bool) {
	s.Helper()
	s.stop()
	content, err := os.ReadFile(s.from)
	if err != nil {
		s.Fatal(err)
	}
	from, err := bolt.Open(s.from, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		s.Fatal(err)
	}
	err = from.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("epoch/" + epoch)).ForEach(func(k, v []byte) error {
			if saved(uint64(k[7])) { // fewer than 256 here
				return nil
			}
			for at := bytes.Index(content, v); at >= 0; at = bytes.Index(content, v) {
				content[at+len(v)-1] ^= 1
			}
			return nil
		})
	})
	if err != nil {
		s.Fatal(err)
	}
	from.Close()
	list, newest := uint64(0), uint64(0)
	for _, meta := range [][]byte{content[16:], content[os.Getpagesize()+16:]} {
		if tx := binary.NativeEndian.Uint64(meta[48:]); tx > newest {
			list, newest = binary.NativeEndian.Uint64(meta[32:]), tx
		}
	}
	clear(content[list*uint64(os.Getpagesize()):][:16])
	if err := os.WriteFile(s.path, content, 0o600); err != nil {
		s.Fatal(err)
	}
	s.run()
	time.Sleep(time.Second)
	synctest.Wait()
	if got := s.box.Status(); got.Epoch != newEpoch || !got.Open || got.Begun != outbox.Salvaged {
		s.Fatalf("the store was not salvaged: %+v", got)
	}
}

// rig is an uplink over a store and a publisher in memory.
func rig(t *testing.T, s *store, central bool) (*Uplink, *broker) {
	b := newBroker()
	up := New(Options{Outbox: s.box, Publisher: b, Topic: "hall/visits", Encode: encode, Central: central, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := up.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return up, b
}

// values of deliveries, all of which it confirms.
func confirm(b *broker) string {
	var all []string
	for _, d := range b.settle() {
		all = append(all, d.payload.Values...)
		d.done(nil)
	}
	synctest.Wait()
	return strings.Join(all, " ")
}

// The store is replaced while the uplink runs: the saved records go first, then
// the new epoch; the consumer's words on both count, each in its turn.
func TestEpochChangesCentral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		up, b := rig(t, s, true)
		b.connect()
		s.add("a", "b", "c", "d", "e")
		if got := confirm(b); got != "1=a 2=b 3=c 4=d 5=e" {
			t.Fatalf("sent %q", got)
		}
		up.Acknowledged(epoch, 2, false)
		synctest.Wait()
		s.replace(func(seq uint64) bool { return seq <= 4 }) // 5 is lost
		if got := confirm(b); got != "1=gap 6-5" {
			t.Errorf("after the new store came %q", got)
		}
		up.Acknowledged(newEpoch, 1, false) // a consumer that did not get 3 and 4: they must not be skipped
		synctest.Wait()
		if got := s.box.Status(); got.Acknowledged != 0 || len(up.Status().Ignored) != 0 {
			t.Errorf("the new epoch was acknowledged before the old one: %+v", got)
		}
		b.disconnect()
		b.connect()
		if got := confirm(b); got != "3=c 4=d 5=gap 5-5 1=gap 6-5" {
			t.Errorf("again came %q", got)
		}
		up.Acknowledged(epoch, 9, false) // beyond
		up.Acknowledged(epoch, 1, false) // lower
		up.Acknowledged(epoch, 5, false) // it had got 5 before
		synctest.Wait()
		got := s.box.Status()
		if got.Pending != 0 || got.Acknowledged != 1 {
			t.Errorf("in the end %+v", got)
		}
		if i := up.Status().Ignored; len(i) != 2 || i[IgnoredBeyond] != 1 || i[IgnoredLower] != 1 {
			t.Errorf("ignored %v", i)
		}
		up.Acknowledged(epoch, 5, false)
		s.add("f")
		if got := confirm(b); got != "2=f" {
			t.Errorf("then came %q", got)
		}
		up.Acknowledged(newEpoch, 2, false)
		synctest.Wait()
		if got := s.box.Status(); got.Pending != 0 || got.Acknowledged != 2 || up.Status().Ignored[IgnoredEpoch] != 1 {
			t.Errorf("status %+v %v", got, up.Status().Ignored)
		}
	})
}

func TestEpochChangesBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		up, b := rig(t, s, false)
		s.add("a", "b", "c", "d", "e")
		b.connect()
		sent := b.settle()
		flushed := make(chan error, 1)
		go func() { flushed <- up.Flush(t.Context()) }()
		synctest.Wait()
		s.replace(func(seq uint64) bool { return seq != 5 })
		s.add("f")
		got := b.settle() // of the new epoch; the old one is on its way
		if text := sequences(got); text != "1,2" && text != "1;2" {
			t.Errorf("sent %q", text)
		}
		select {
		case <-flushed:
			t.Error("flushed too early")
		default:
		}
		s.add("g") // after the flush began: it need not wait for that
		b.settle()
		for _, d := range append(sent, got...) {
			d.done(nil)
		}
		synctest.Wait()
		if st := s.box.Status(); st.Pending != 1 || st.Acknowledged != 2 {
			t.Errorf("in the end %+v", st)
		}
		select {
		case err := <-flushed:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("not flushed")
		}
	})
}

// After a restart nobody knows how much of the saved epoch was sent: the
// consumer's word on it waits until that is sent again.
func TestSavedEpochAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		s.add("a", "b", "c")
		s.replace(func(uint64) bool { return true })
		up, b := rig(t, s, true)
		up.Acknowledged(epoch, 2, false) // retained at the broker
		b.connect()
		if got := confirm(b); got != "1=a 2=b 3=c 1=gap 4-3" {
			t.Errorf("sent %q", got)
		}
		if st := s.box.Status(); st.Pending != 1 || st.Gaps != 1 {
			t.Errorf("the early word was not heard: %+v", st)
		}
		up.Acknowledged(epoch, 3, false)
		up.Acknowledged(newEpoch, 1, true)
		synctest.Wait()
		if st := s.box.Status(); st.Pending != 0 || len(up.Status().Ignored) != 0 {
			t.Errorf("in the end %+v, ignored %v", st, up.Status().Ignored)
		}
	})
}

// The saved records may include some that the uplink knows to be acknowledged.
func TestSavedTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		up, b := rig(t, s, true)
		b.connect()
		s.add("a", "b", "c")
		confirm(b)
		s.remember()
		up.Acknowledged(epoch, 3, false)
		synctest.Wait()
		if st := s.box.Status(); st.Pending != 0 {
			t.Fatalf("not acknowledged: %+v", st)
		}
		s.replace(func(uint64) bool { return true })
		confirm(b)
		up.Acknowledged(newEpoch, 1, false)
		time.Sleep(2 * pause)
		synctest.Wait()
		if st := s.box.Status(); st.Pending != 0 || st.Acknowledged != 1 {
			t.Errorf("in the end %+v %s", st, fmt.Sprint(up.Status().Ignored))
		}
	})
}
