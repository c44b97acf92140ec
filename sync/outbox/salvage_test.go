package outbox

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// original is a store that came to no harm: 700 records of several sizes, of
// which 150 are acknowledged and some dropped for size, and marks.
type original struct {
	file   []byte
	values map[uint64]string // that wait
	status Status
	marks  map[string]string
}

func newOriginal(t *testing.T) original {
	t.Helper()
	path := filepath.Join(t.TempDir(), "visits.db")
	o, stop := startStop(t, Options{Path: path, MaxSize: 300_000})
	or := original{values: map[uint64]string{}, marks: map[string]string{}}
	random := rand.New(rand.NewPCG(7, 7))
	for i := range 700 {
		value := fmt.Sprintf("record %d %s", i+1, strings.Repeat("x", random.IntN(600)+random.IntN(2)*random.IntN(60)*100))
		marks := []Mark{{"total", fmt.Append(nil, i+1)}}
		if i%10 == 0 {
			marks = append(marks, Mark{"estimate", bytes.Repeat(fmt.Append(nil, i), 2000)})
		}
		p := add(t, o, value, marks...)
		or.values[p.Seq] = value
		for _, m := range marks {
			or.marks[m.Name] = string(m.Value)
		}
		if i == 400 {
			if err := o.Acknowledge(t.Context(), Position{p.Epoch, 150}); err != nil {
				t.Fatal(err)
			}
		}
	}
	balance(t, o)
	for _, r := range all(t, o) {
		if r.Gap != nil {
			for seq := range r.Gap.To + 1 {
				delete(or.values, seq)
			}
		}
	}
	or.status = o.Status()
	if or.status.Dropped[ReasonSize] == 0 || len(or.values) != int(or.status.Pending) {
		t.Fatalf("original %+v, %d values", or.status, len(or.values))
	}
	stop()
	var err error
	if or.file, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return or
}

// harm is a way to damage a file.
type harm struct {
	name string
	do   func(b []byte, random *rand.Rand) []byte
}

func harms() []harm {
	page := os.Getpagesize()
	pageAt := func(b []byte, random *rand.Rand) []byte {
		at := random.IntN(len(b)/page) * page
		return b[at : at+page]
	}
	return []harm{
		{"one bit", func(b []byte, random *rand.Rand) []byte {
			b[random.IntN(len(b))] ^= 1 << random.IntN(8)
			return b
		}},
		{"many bytes", func(b []byte, random *rand.Rand) []byte {
			for range 40 {
				b[random.IntN(len(b))] = byte(random.IntN(256))
			}
			return b
		}},
		{"a header", func(b []byte, random *rand.Rand) []byte {
			p := pageAt(b, random)
			p[random.IntN(32)] ^= byte(1 + random.IntN(255))
			return b
		}},
		{"page of zeros", func(b []byte, random *rand.Rand) []byte { clear(pageAt(b, random)); return b }},
		{"ten pages of zeros", func(b []byte, random *rand.Rand) []byte {
			for range 10 {
				clear(pageAt(b, random))
			}
			return b
		}},
		{"page of noise", func(b []byte, random *rand.Rand) []byte {
			for i, p := 0, pageAt(b, random); i < len(p); i++ {
				p[i] = byte(random.IntN(256))
			}
			return b
		}},
		{"page in the wrong place", func(b []byte, random *rand.Rand) []byte { copy(pageAt(b, random), pageAt(b, random)); return b }},
		{"cut", func(b []byte, random *rand.Rand) []byte { return b[:random.IntN(len(b))] }},
		{"the first pages", func(b []byte, random *rand.Rand) []byte { clear(b[:(1+random.IntN(8))*page]); return b }},
		{"one head", func(b []byte, random *rand.Rand) []byte { b[random.IntN(2)*page+16+random.IntN(64)] ^= 0xff; return b }},
		{"free list", func(b []byte, random *rand.Rand) []byte {
			p := &pages{r: bytes.NewReader(b), size: page, count: uint64(len(b) / page)}
			m, _ := p.meta()
			list := b[int(m.freelist)*page:]
			native.PutUint64(list[16+8*random.IntN(max(1, int(native.Uint16(list[10:])))):], uint64(random.IntN(int(m.end)+3)))
			return b
		}},
		{"root", func(b []byte, _ *rand.Rand) []byte {
			p := &pages{r: bytes.NewReader(b), size: page, count: uint64(len(b) / page)}
			m, _ := p.meta()
			clear(b[int(m.root)*page:][:page])
			return b
		}},
	}
}

// TestDamagedStore damages copies of a store in many ways. Each starts within
// 10 s, delivers whole records only, in order, tells of all that is lost, keeps
// all marks or none, and works on.
func TestDamagedStore(t *testing.T) { damageStores(t, 36) }

func TestTortureDamagedStore(t *testing.T) {
	if os.Getenv("HALLAGENT_TORTURE") == "" {
		t.Skip("in make torture")
	}
	damageStores(t, 1200)
}

func damageStores(t *testing.T, copies int) {
	or := newOriginal(t)
	all := harms()
	var slowest time.Duration
	found := map[string]int{}
	for i := range copies {
		h := all[i%len(all)]
		random := rand.New(rand.NewPCG(uint64(i), 3))
		damaged := h.do(bytes.Clone(or.file), random)
		took, what := or.survives(t, fmt.Sprintf("%s, copy %d", h.name, i), damaged)
		slowest = max(slowest, took)
		found[what]++
	}
	t.Logf("%d copies: %v; slowest start %v", copies, found, slowest)
	if found["salvaged"] == 0 || found["records"] == 0 {
		t.Errorf("the damage was never found: %v", found)
	}
}

// survives opens a damaged copy and tells how long that took and what was found.
func (or original) survives(t *testing.T, name string, damaged []byte) (time.Duration, string) {
	t.Helper()
	dir := t.TempDir()
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "visits.db")
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	epochs := newEpoch()
	old, _, _ := epochs("")
	opts := Options{Path: path, NewEpoch: func(string) (string, string, error) { e, _, err := epochs(""); return e, old, err }}
	began := time.Now()
	o, stop := startStop(t, opts)
	took := time.Since(began)

	records := drained(t, o, name)
	s := o.Status()
	or.judge(t, name, old, records, s)
	for what := range or.marks {
		value, err := o.Mark(what)
		if err != nil || value != nil && string(value) != or.marks[what] {
			t.Fatalf("%s: mark %q is not the latest: %v", name, what, err)
		}
		if value == nil && (len(s.Damages) == 0 || s.Damages[len(s.Damages)-1].Marks) {
			t.Fatalf("%s: mark %q went without a word: %+v", name, what, s.Damages)
		}
	}
	balance(t, o)

	// It works on, and what was found once is not found again.
	var p Position
	again(t, o, name, func() (err error) {
		p, err = o.Append(t.Context(), []byte("and on"), Mark{"total", []byte("new")})
		return err
	})
	stop()
	o, stop = startStop(t, opts)
	defer stop()
	if s := o.Status(); s.Begun != "" {
		t.Fatalf("%s: damaged again: %+v", name, s)
	}
	for _, e := range []Position{{old, s.Last}, p} {
		again(t, o, name, func() error {
			if err := o.Acknowledge(t.Context(), e); !errors.Is(err, ErrNoRecord) {
				return err
			}
			return nil
		})
	}
	switch {
	case s.Begun != "":
		return took, string(s.Begun)
	case s.Dropped[ReasonCorruption] > 0:
		return took, "records"
	}
	return took, "nothing"
}

// again does what damage to the free list may refuse at first: it shows only when
// pages are taken from it or given back.
func again(t *testing.T, o *Outbox, name string, do func() error) {
	t.Helper()
	err := do()
	for try := 0; err != nil; try++ {
		if try == 3 {
			t.Fatalf("%s: %v", name, err)
		}
		until(t, o, "open again", func(s Status) bool { return s.Open && s.Begun == Salvaged })
		err = do()
	}
}

// drained reads everything, over a salvage that this may bring about.
func drained(t *testing.T, o *Outbox, name string) []Record {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		var records []Record
		var after Position
		for {
			next, err := o.Read(after, 64, 1<<20)
			if err != nil {
				if time.Now().After(deadline) {
					t.Fatalf("%s: %v, %+v", name, err, o.Status())
				}
				records, after = nil, Position{}
				opened := o.Status().Since
				until(t, o, "open again", func(s Status) bool { return s.Open && (s.Since != opened || o.handleIsOpen()) })
				continue
			}
			if len(next) == 0 {
				return records
			}
			records = append(records, next...)
			after = next[len(next)-1].Position
		}
	}
}

func (o *Outbox) handleIsOpen() bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.handle != nil
}

// judge compares what was delivered with what had been there.
func (or original) judge(t *testing.T, name, old string, records []Record, s Status) {
	t.Helper()
	told := map[uint64]bool{} // by a record or a gap
	values, open := 0, false
	before := Position{}
	for _, r := range records {
		if r.Epoch < before.Epoch || r.Epoch == before.Epoch && r.Seq <= before.Seq {
			t.Fatalf("%s: %v after %v", name, r.Position, before)
		}
		before = r.Position
		switch {
		case r.Epoch != old:
			if r.Gap == nil || r.Seq != 1 || r.Gap.Epoch != old {
				t.Fatalf("%s: the new epoch begins with %+v", name, r)
			}
			open = r.Gap.Open
		case r.Gap == nil:
			if want, waits := or.values[r.Seq]; string(r.Value) != want || !waits && !open {
				if waits || r.Seq > or.status.Last {
					t.Fatalf("%s: record %d delivered as %.40q", name, r.Seq, r.Value)
				}
				continue // acknowledged or dropped before: nobody knew any more
			}
			values++
			told[r.Seq] = true
		default:
			for seq := r.Gap.From; seq <= r.Gap.To; seq++ {
				told[seq] = true
			}
		}
	}
	for seq := range or.values {
		if !told[seq] && !open {
			t.Fatalf("%s: record %d went without a word: %+v", name, seq, s)
		}
	}
	if lost := int(or.status.Pending) - values; !open && lost != int(s.Dropped[ReasonCorruption]) {
		t.Fatalf("%s: %d records are lost, the books say %d", name, lost, s.Dropped[ReasonCorruption])
	}
}

// What is damaged while the store is open is found by who reads, and the store
// goes on under a new epoch.
func TestDamagedWhileOpen(t *testing.T) {
	page := os.Getpagesize()
	for name, do := range map[string]func(f *os.File, size int64) error{
		"cut":  func(f *os.File, size int64) error { return f.Truncate(int64(2 * page)) },
		"half": func(f *os.File, size int64) error { return f.Truncate(size / 2 / int64(page) * int64(page)) },
		"zeros": func(f *os.File, size int64) error {
			_, err := f.WriteAt(make([]byte, size-int64(2*page)), int64(2*page))
			return err
		},
		"third 7": func(f *os.File, size int64) error {
			_, err := f.WriteAt(bytes.Repeat([]byte{7}, int(size/3)), size/3)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "visits.db")
			o := start(t, Options{Path: path})
			for range 300 {
				add(t, o, strings.Repeat("x", 1000))
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := do(f, int64(o.Status().FileBytes)); err != nil {
				t.Fatal(err)
			}
			records := drained(t, o, name)
			s := until(t, o, "salvaged", func(s Status) bool { return s.Begun == Salvaged && s.Open })
			told := uint64(0)
			for _, r := range records {
				if r.Epoch == "000001-9f3a77c2" {
					told = r.Seq
				}
			}
			if told != 300 && !s.Damages[0].Open {
				t.Errorf("told of %d records: %+v", told, s)
			}
			if s.Epoch != "000002-9f3a77c2" || len(s.Damages) != 1 || s.Damages[0].Saved+s.Damages[0].Lost < 300 && !s.Damages[0].Open {
				t.Errorf("status %+v", s)
			}
			add(t, o, "and on")
			balance(t, o)
			if err := os.Rename(s.Damages[0].File, filepath.Join(t.TempDir(), "away")); err != nil {
				t.Fatal(err)
			}
			until(t, o, "without a damaged file", func(s Status) bool { return len(s.Damages) == 0 })
		})
	}
}

// A store that is not there any more although there had been one is begun anew,
// and says so.
func TestReplacedStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	for name, do := range map[string]func() error{
		"removed": func() error { return os.Remove(path) },
		"emptied": func() error { return os.Truncate(path, 0) },
	} {
		epochs := newEpoch()
		opts := Options{Path: path, NewEpoch: func(string) (string, string, error) { e, _, err := epochs(""); return e, "000001-0000abcd", err }}
		_, stop := startStop(t, opts)
		stop()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		o, stop := startStop(t, opts)
		records := all(t, o)
		if s := o.Status(); s.Begun != Replaced || len(records) != 1 {
			t.Fatalf("%s: %+v, %v", name, s, records)
		}
		want := Gap{Epoch: "000001-0000abcd", From: 1, Open: true, Reason: ReasonRestore}
		if r := records[0]; r.Gap == nil || *r.Gap != want || r.Seq != 1 {
			t.Errorf("%s: begins with %+v", name, r.Gap)
		}
		balance(t, o)
		stop()
	}
}

// A store whose name is taken away while it is open is written anew: nothing of
// it is lost.
func TestLostName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	o, stop := startStop(t, Options{Path: path})
	for i := range 100 {
		add(t, o, fmt.Sprint(i), Mark{"total", fmt.Append(nil, i)})
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	until(t, o, "written anew", func(s Status) bool { return s.Compactions == 1 && s.Open && exists(path) })
	add(t, o, "last")
	// A strange file in its place is set aside, not overwritten and not used.
	if err := errors.Join(os.Rename(path, path+".moved"), os.WriteFile(path, []byte("not a store"), 0o600)); err != nil {
		t.Fatal(err)
	}
	until(t, o, "written anew", func(s Status) bool { return s.Compactions == 2 && s.Open })
	// Without its folder it accepts nothing, and keeps what it has.
	if err := os.Rename(filepath.Dir(path), filepath.Dir(path)+"-away"); err != nil {
		t.Fatal(err)
	}
	until(t, o, "holding", func(s Status) bool { return !s.Open && s.Code == "missing" })
	if _, err := o.Append(t.Context(), []byte("x")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("accepted into a file without a name: %v", err)
	}
	if records := all(t, o); len(records) != 101 {
		t.Errorf("%d records can be read", len(records))
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	until(t, o, "back", func(s Status) bool { return s.Open })
	strange, err := filepath.Glob(filepath.Dir(path) + "-away/*" + damagedInfix + "*")
	if err != nil || len(strange) != 1 {
		t.Errorf("set aside: %v, %v", strange, err)
	}
	stop()
	o = start(t, Options{Path: path})
	if s := o.Status(); s.Pending != 101 || s.Begun != "" {
		t.Errorf("status %+v", s)
	}
	if mark, err := o.Mark("total"); string(mark) != "99" || err != nil {
		t.Errorf("mark %q, %v", mark, err)
	}
	balance(t, o)
}
