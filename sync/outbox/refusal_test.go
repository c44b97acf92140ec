package outbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// opened gives a writer of a store that nobody runs, for what goes on inside.
func opened(t *testing.T, opts Options) *writer {
	t.Helper()
	opts.Stream, opts.Log = "visits", quiet()
	if opts.NewEpoch == nil {
		opts.NewEpoch = newEpoch()
	}
	w := &writer{o: New(opts)}
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	return w
}

func batchOf(marks []Mark, values ...string) *batch {
	b := newBatch()
	for _, v := range values {
		e := entry{value: encodeValue(noon, []byte(v))}
		e.sum = sumOf(e.value)
		b.entries = append(b.entries, e)
	}
	b.entries = append(b.entries, entry{marks: marks})
	return b
}

func (w *writer) must(t *testing.T, b *batch) {
	t.Helper()
	for more := true; more; b = nil {
		var err error
		if more, err = w.commit(b); err != nil {
			t.Fatal(err)
		}
	}
}

// refuse writes a batch and then believes that it was refused, as after a sync
// that failed.
func (w *writer) refuse(t *testing.T, b *batch) {
	t.Helper()
	last := w.state.current()
	r := &refusal{last: Position{last.Epoch, last.Last}, marks: map[string][]byte{}}
	err := w.h.view(func(tx *bolt.Tx) error {
		for _, e := range b.entries {
			for _, m := range e.marks {
				r.marks[m.Name] = bytes.Clone(tx.Bucket(bucketMarks).Get([]byte(m.Name)))
			}
		}
		return nil
	})
	if err == nil {
		_, _, _, err = w.try(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.o.refused = r
}

// What was refused and is on the disk all the same is not shown, and is gone when
// the store is open again, with its marks, whether the file is sound then or not.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		opts    Options
		refused *batch
		damage  bool
	}{
		"records and marks":      {refused: batchOf([]Mark{{"total", []byte("new")}, {"first", []byte("new")}}, "c", "d")},
		"marks alone":            {refused: batchOf([]Mark{{"total", []byte("new")}})},
		"more than MaxSize":      {opts: Options{MaxSize: 90}, refused: batchOf(nil, strings.Repeat("c", 80), strings.Repeat("d", 80))},
		"and the file is broken": {refused: batchOf([]Mark{{"total", []byte("new")}, {"first", []byte("new")}}, "c", "d"), damage: true},
	} {
		t.Run(name, func(t *testing.T) {
			c.opts.Path = filepath.Join(t.TempDir(), "visits.db")
			w := opened(t, c.opts)
			w.must(t, batchOf([]Mark{{"total", []byte("old")}}, "a", "b"))
			w.refuse(t, c.refused)
			w.o.handle = w.h
			if records, err := w.o.Read(Position{}, 10, 1000); err != nil || len(records) != 2 {
				t.Errorf("before the store is open again: %v, %v", records, err)
			}
			w.o.handle = nil
			if err := w.h.close(); err != nil {
				t.Fatal(err)
			}
			if c.damage {
				spoil(t, c.opts.Path)
			}
			o := w.o
			run(t, o)
			<-o.Opened()
			var got []string
			for _, r := range all(t, o) {
				got = append(got, string(r.Value))
			}
			if want := []string{"a", "b"}; !slices.Equal(got[:2], want) || len(got) > 2 && !c.damage {
				t.Errorf("holds %q", got)
			}
			if mark, err := o.Mark("total"); string(mark) != "old" || err != nil {
				t.Errorf("mark %q, %v", mark, err)
			}
			if mark, err := o.Mark("first"); mark != nil || err != nil {
				t.Errorf("a mark that was never set: %q, %v", mark, err)
			}
			s := o.Status()
			if s.Accepted != 2 || s.Pending != 2 || s.Dropped[ReasonSize]+s.Dropped[ReasonCorruption] != 0 {
				t.Errorf("status %+v", s)
			}
			balance(t, o)
			add(t, o, "e")
		})
	}
}

// spoil damages the free list of a file: enough for a salvage, and no record is
// touched.
func spoil(t *testing.T, path string) {
	t.Helper()
	p, f, err := openPages(path)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := p.meta()
	f.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[int(m.freelist)*p.size:][:pageHeader])
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// change changes a store behind its own back.
func change(t *testing.T, path string, f func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err == nil {
		err = errors.Join(db.Update(f), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Each of these would be lost or doubled in silence if it were believed.
func TestDistrust(t *testing.T) {
	const epoch = "000001-9f3a77c2"
	records := func(tx *bolt.Tx) *bolt.Bucket { return tx.Bucket(epochBucket(epoch)) }
	for name, c := range map[string]struct {
		do    func(t *testing.T, path string, older map[string][]byte)
		gaps  []string // of the old epoch
		marks bool
	}{
		"a record is missing": {func(t *testing.T, path string, _ map[string][]byte) {
			change(t, path, func(tx *bolt.Tx) error { return records(tx).Delete(key(5)) })
		}, []string{"5: 5-5 1 corruption"}, true},
		"the last is missing": {func(t *testing.T, path string, _ map[string][]byte) {
			change(t, path, func(tx *bolt.Tx) error { return records(tx).Delete(key(9)) })
		}, []string{"9: 9-9 1 corruption"}, true},
		"a mark is an old one": {func(t *testing.T, path string, older map[string][]byte) {
			change(t, path, func(tx *bolt.Tx) error { return tx.Bucket(bucketMarks).Put([]byte("total"), older["total"]) })
		}, nil, false},
		"after a compaction": {func(t *testing.T, path string, _ map[string][]byte) {
			if _, _, err := CompactFile(t.Context(), path, "visits", quiet()); err != nil {
				t.Fatal(err)
			}
			_, stop := startStop(t, Options{Path: path})
			stop()
			spoil(t, path)
		}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "visits.db")
			epochs := newEpoch()
			opts := Options{Path: path, NewEpoch: epochs}
			o, stop := startStop(t, opts)
			older := map[string][]byte{}
			for i := range 9 {
				add(t, o, fmt.Sprint(i+1), Mark{"total", binary.BigEndian.AppendUint64(nil, uint64(i))})
				if i == 4 {
					o.view(func(tx *bolt.Tx) error {
						older["total"] = bytes.Clone(tx.Bucket(bucketMarks).Get([]byte("total")))
						return nil
					})
				}
			}
			stop()
			c.do(t, path, older)
			o = start(t, opts)
			got := drained(t, o, name)
			s := until(t, o, "salvaged", func(s Status) bool { return s.Begun == Salvaged && s.Open })
			if len(got) > 0 && got[len(got)-1].Epoch == epoch {
				got = drained(t, o, name)
			}
			if gaps := gapsOf(got[:len(got)-1]); !slices.Equal(gaps, c.gaps) {
				t.Errorf("gaps %v", gaps)
			}
			mark, err := o.Mark("total")
			if err != nil || (mark != nil) != c.marks || mark != nil && mark[7] != 8 {
				t.Errorf("mark %v, %v", mark, err)
			}
			if s.Damages[0].Marks != c.marks {
				t.Errorf("status %+v", s)
			}
			balance(t, o)
		})
	}
}

// A gap for size that is lost is told as one for size, and what it stood for does
// not come back from pages that are free.
func TestSalvageKeepsShed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	opts := Options{Path: path, MaxSize: 10_000, NewEpoch: newEpoch()}
	o, stop := startStop(t, opts)
	for range 100 {
		add(t, o, strings.Repeat("v", 500))
	}
	settled(t, o)
	before := o.Status()
	shed := before.Dropped[ReasonSize]
	stop()
	change(t, path, func(tx *bolt.Tx) error { return tx.Bucket(epochBucket(before.Epoch)).Delete(key(shed)) })
	o = start(t, opts)
	until(t, o, "salvaged", func(s Status) bool {
		_, err := o.Read(Position{}, 1, 1)
		return err == nil && s.Begun == Salvaged && s.Open
	})
	records := all(t, o)
	s := o.Status()
	next := uint64(1) // the gap before the last one may still be found in a free page
	for _, r := range records {
		if g := r.Gap; g != nil && r.Epoch == before.Epoch && (g.Reason != ReasonSize || g.From != next) {
			t.Errorf("gaps %v", gapsOf(records))
		} else if g != nil {
			next = g.To + 1
		} else if next <= shed {
			t.Errorf("record %d came back", r.Seq)
		}
	}
	if s.Dropped[ReasonCorruption] != 0 || s.Dropped[ReasonSize] != shed || s.Pending != before.Pending {
		t.Errorf("before %+v, after %+v", before, s)
	}
	balance(t, o)
}

func TestLatest(t *testing.T) {
	got := latest([]found{
		{seq: 3, from: 3, opening: 1, at: 9}, {seq: 3, from: 3, opening: 2, at: 1}, // written again after an opening
		{seq: 7, from: 7, opening: 3, at: 5}, {seq: 7, from: 5, gap: true, opening: 3, at: 1}, // dropped
		{seq: 6, from: 6, opening: 3, at: 2}, {seq: 8, from: 8, opening: 1, at: 3},
	})
	if want := "[3/2 7/3 8/1]"; fmt.Sprint(names(got)) != want {
		t.Errorf("%v, want %s", names(got), want)
	}
}

func names(all []found) (names []string) {
	for _, f := range all {
		names = append(names, fmt.Sprintf("%d/%d", f.seq, f.opening))
	}
	return names
}

// A copy during which records were replaced in place is thrown away.
func TestCompactionDisturbed(t *testing.T) {
	w := opened(t, Options{Path: filepath.Join(t.TempDir(), "visits.db")})
	defer func() { w.h.close() }()
	w.must(t, batchOf(nil, "a", "b", "c"))
	w.start(context.Background())
	c := <-w.copied
	name := epochBucket(w.state.current().Epoch)
	if err := w.h.update(func(tx *bolt.Tx) error { return tx.Bucket(name).Put(key(2), []byte("rotten")) }); err != nil {
		t.Fatal(err)
	}
	w.tasks = []*task{{position: Position{w.state.current().Epoch, 2}, repair: true, done: make(chan struct{})}}
	w.must(t, nil)
	if err := w.finish(c); err != nil {
		t.Fatal(err)
	}
	if s := w.o.Status(); s.Compactions != 0 || s.Dropped[ReasonCorruption] != 1 || exists(w.o.opts.Path+compactName) {
		t.Errorf("status %+v", s)
	}
	w.closing.Wait()
}

// A probe of the disk that was cut short leaves a store that is whole.
func TestProbeCutShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	o, stop := startStop(t, Options{Path: path})
	add(t, o, "a", Mark{"total", []byte("1")})
	stop()
	w := opened(t, Options{Path: path})
	err := w.h.update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucket(bucketProbe)
		return errors.Join(err, bucket.Put(bucketProbe, make([]byte, MaxValue)), w.state.save(tx))
	})
	if err = errors.Join(err, w.h.close()); err != nil {
		t.Fatal(err)
	}
	if v, err := Verify(path); err != nil || len(v.Problems) > 0 {
		t.Errorf("verify: %+v, %v", v, err)
	}
	o = start(t, Options{Path: path})
	if mark, err := o.Mark("total"); o.Status().Begun != "" || string(mark) != "1" || err != nil {
		t.Errorf("mark %q, %v, status %+v", mark, err, o.Status())
	}
}

// A store that was put back from a copy goes on under a new epoch, after the
// records that wait.
func TestRenew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	o := start(t, Options{Path: path})
	add(t, o, "a", Mark{"total", []byte("1")})
	if err := o.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := add(t, o, "b"); p != (Position{"000002-9f3a77c2", 2}) {
		t.Errorf("appended at %v", p)
	}
	if err := errors.Join(o.Acknowledge(t.Context(), Position{"000001-9f3a77c2", 1}), o.Acknowledge(t.Context(), Position{"000002-9f3a77c2", 2})); err != nil {
		t.Fatal(err)
	}
	if err := o.Renew(t.Context()); err != nil { // nothing waits
		t.Fatal(err)
	}
	records := all(t, o)
	want := Gap{Epoch: "000002-9f3a77c2", From: 3, To: 2, Open: true, Reason: ReasonRestore}
	if len(records) != 1 || records[0].Gap == nil || *records[0].Gap != want || records[0].Epoch != "000003-9f3a77c2" {
		t.Errorf("records %+v", records)
	}
	if mark, err := o.Mark("total"); string(mark) != "1" || err != nil || o.Status().Begun != Restored {
		t.Errorf("mark %q, %v, status %+v", mark, err, o.Status())
	}
	balance(t, o)
}
