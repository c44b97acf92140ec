package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallagent/hallagent/central/store"
	"github.com/hallagent/hallagent/sync/wire"
)

// rules is a world with one instance that serves hallOne.
type rules struct {
	*world
	t  *testing.T
	db *store.DB
	l  *link
	a  *agent
}

func newRules(t *testing.T, url string, effect Effect) *rules {
	r := &rules{world: newWorld(t, url), t: t}
	r.life = time.Minute // a hall that is left and taken again counts anew
	r.db = r.open()
	r.a = r.agent(hallOne)
	r.a.items = []item{{epoch: first, sequence: 1 << 40}, {epoch: second, sequence: 1 << 40}} // it knows both, and does nothing by itself
	r.l = r.begin("a", effect, true)
	eventually(t, 10*time.Second, "the hall is served", func() bool {
		r.a.w.publish(hallOne.Status(), []byte("{}"))
		return r.l.serves() == 1
	})
	return r
}

// comes publishes records of an epoch.
func (r *rules) comes(epoch string, sequences ...uint64) {
	var items []item
	for _, s := range sequences {
		items = append(items, item{epoch: epoch, sequence: s})
	}
	r.publish(hallOne.Stream("visits"), encode(hallOne, items))
}

// gap publishes a gap record.
func (r *rules) gap(epoch string, sequence uint64, g wire.Gap) {
	r.publish(hallOne.Stream("visits"), encode(hallOne, []item{{epoch, sequence, &g}}))
}

// expect waits for the effects: first is written as 1, second as 2, gaps in full.
func (r *rules) expect(want string) {
	r.t.Helper()
	got := ""
	read := func() bool {
		items, gaps := applied(r.t, r.db, hallOne)
		short := strings.NewReplacer(first+"/", "", second+"/", "b")
		got = short.Replace(strings.Join(items, " "))
		if len(gaps) > 0 {
			got += " | " + strings.NewReplacer(first, "a", second, "b").Replace(strings.Join(gaps, ", "))
		}
		return got == want
	}
	for deadline := time.Now().Add(10 * time.Second); !read(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("effects %q, want %q; %+v", got, want, r.l.books(hallOne))
		}
	}
}

// say publishes the agent's status.
func (r *rules) say(session string, state wire.AgentState, epoch string, last, pending uint64) {
	s := wire.Status{State: state, Session: session, Streams: map[string]wire.StreamState{"visits": {Epoch: epoch, Last: last, Pending: pending}}}
	payload, err := wire.State(hallOne, hallOne.Status(), "agent", wire.TypeStatus, session, time.Now(), s)
	if err != nil {
		r.t.Fatal(err)
	}
	r.publish(hallOne.Status(), payload)
}

func (r *rules) books(what string, true func(Stream) bool) {
	r.t.Helper()
	eventually(r.t, 10*time.Second, what, func() bool { return true(r.l.books(hallOne)) })
}

func (r *rules) words() []wire.Ack {
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	return slices.Clone(r.a.words)
}

func testRules(t *testing.T, url string) {
	r := newRules(t, url, write)
	r.comes(first, 1, 2)
	r.expect("1 2")
	r.comes(first, 2, 3)
	r.comes(first, 1)
	r.expect("1 2 3")
	r.books("duplicates", func(s Stream) bool { return s.Duplicates == 2 && s.Applied == 3 && s.Holes == 0 })

	// Out of order: put aside, and taken when what is missing comes.
	r.comes(first, 6, 7)
	r.comes(first, 5)
	r.books("a hole", func(s Stream) bool { return s.Holes == 1 && s.Known == 7 && s.Mark == 3 })
	r.comes(first, 4)
	r.expect("1 2 3 4 5 6 7")

	// Nothing comes: it is asked for, again and again.
	asked := func() (n int) {
		for _, w := range r.words() {
			if w.Resend && w.Epoch == first && w.Upto == 7 {
				n++
			}
		}
		return n
	}
	r.comes(first, 9)
	eventually(t, 10*time.Second, "asked to send again, twice", func() bool { return asked() == 2 })

	// A gap that reaches below the mark counts for what is above it.
	r.gap(first, 8, wire.Gap{Epoch: first, From: 5, To: 8, Count: 4, Reason: "size"})
	r.expect("1 2 3 4 5 6 7 8 9 | a 8 8 1 size")
	r.gap(first, 14, wire.Gap{Epoch: first, From: 10, To: 14, Count: 5, Reason: "corruption"})
	r.gap(first, 14, wire.Gap{Epoch: first, From: 10, To: 14, Count: 5, Reason: "corruption"})
	r.gap(first, 20, wire.Gap{Epoch: first, From: 16, To: 20, Count: 5, Reason: "size"})
	r.comes(first, 15)
	gaps := "a 8 8 1 size, a 10 14 5 corruption, a 16 20 5 size"
	r.expect("1 2 3 4 5 6 7 8 9 14 15 20 | " + gaps)
	r.books("gaps", func(s Stream) bool { return s.Gaps["size"] == 6 && s.Gaps["corruption"] == 5 && s.Mark == 20 })
	if w := r.l.word(hallOne); w != `{"epoch":"`+first+`","upto":20}` {
		t.Errorf("retained %s", w)
	}

	// A new epoch that names more of the old one than came waits for it.
	r.gap(second, 1, wire.Gap{Epoch: first, From: 23, To: 25, Count: 3, Reason: "salvage"})
	r.comes(second, 2)
	eventually(t, 10*time.Second, "the old epoch is asked for", func() bool {
		return slices.Contains(r.words(), wire.Ack{Epoch: first, Upto: 20, Resend: true})
	})
	r.comes(first, 21, 22)
	r.expect("1 2 3 4 5 6 7 8 9 14 15 20 21 22 b1 b2 | " + gaps + ", a 23 25 3 salvage")

	// The old epoch is closed: what was declared lost is a duplicate, what follows
	// has its effect all the same, and what does not is late.
	r.comes(first, 24)
	r.comes(first, 28)
	r.books("late", func(s Stream) bool { return s.Late == 1 })
	r.comes(first, 26)
	r.expect("1 2 3 4 5 6 7 8 9 14 15 20 21 22 b1 b2 26 | " + gaps + ", a 23 25 3 salvage")
	eventually(t, 10*time.Second, "the old epoch is acknowledged", func() bool {
		return slices.Contains(r.words(), wire.Ack{Epoch: first, Upto: 26})
	})
	if w := r.l.word(hallOne); w != `{"epoch":"`+second+`","upto":2}` {
		t.Errorf("retained %s", w)
	}

	// Another instance goes on where this one was.
	r.l.stop()
	r.l = r.begin("b", write, true)
	eventually(t, 10*time.Second, "the acknowledgement is given again", func() bool { return r.l.word(hallOne) == `{"epoch":"`+second+`","upto":2}` })
	r.books("books are kept", func(s Stream) bool {
		return s.Applied == 13 && s.Gaps["salvage"] == 3 && s.Gaps["size"] == 6 && s.Mark == 2 && s.Epoch == second
	})
	r.publish(hallOne.Stream("visits"), []byte("no JSON"))
	r.publish(hallOne.Stream("visits"), []byte(`[{"stream":"visits","epoch":"x","sequence":"1"}]`))
	r.books("malformed", func(s Stream) bool { return s.Malformed == 2 })

	// An agent is asked when it says that it has more.
	r.say("000001-000000002", wire.Ready, second, 9, 7)
	eventually(t, 10*time.Second, "asked", func() bool { return slices.Contains(r.words(), wire.Ack{Epoch: second, Upto: 2, Resend: true}) })
}

// Nobody is asked who is not there, however long something is missing.
func TestAskedIfThere(t *testing.T) {
	w := newWorld(t, "")
	a := w.agent(hallOne)
	a.add(first, 9)
	session := t.Context()
	l := &link{w: w, in: New(Options{Streams: []string{"visits"}, Reorder: time.Second, Log: testLog()})}
	l.in.session.Store(&session)
	h := newHall(session, l.in, l, lease{hall: hallOne})
	now := time.Now()
	for i, state := range []wire.AgentState{wire.Ready, wire.Lost, wire.Stopping, wire.Degraded} {
		h.heard(wire.Status{State: state, Streams: map[string]wire.StreamState{"visits": {Epoch: first, Last: 9, Pending: 9}}}, false, i == 0)
		for range 10 {
			now = now.Add(time.Hour)
			h.ask(now)
		}
		if want := []int{10, 10, 10, 20}[i]; len(a.words) != want {
			t.Errorf("asked %d times, want %d, when it is %s", len(a.words), want, state)
		}
	}
}

// What an effect will never take is put aside, with all it did undone; what it
// cannot take now keeps the hall where it is, and no other hall.
func testEffectErrors(t *testing.T, url string) {
	var broken atomic.Bool
	broken.Store(true)
	other := wire.Hall{Area: "371003", ID: "other"}
	r := newRules(t, url, func(ctx context.Context, tx *sql.Tx, r Record) error {
		if err := write(ctx, tx, r); err != nil {
			return err
		}
		switch {
		case r.Sequence%4 == 2:
			return fmt.Errorf("door of the visit: %w", Reject(errors.New("no such door")))
		case r.Sequence == 5:
			if _, err := tx.ExecContext(ctx, "INSERT INTO nowhere VALUES (1)"); err != nil {
				return Reject(err) // PostgreSQL takes nothing more in this transaction
			}
		case r.Sequence == 8 && r.Hall == hallOne && broken.Load():
			return errors.New("the disk is full")
		}
		return nil
	})
	r.comes(first, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	r.comes(first, 10, 11)
	r.expect("1 3 4 7")
	eventually(t, 10*time.Second, "the hall tells its trouble", func() bool {
		for _, h := range r.l.in.Status().Halls {
			if h.ID == hallOne.ID {
				return strings.HasSuffix(h.Err, "8: the disk is full") && h.Streams[0].Mark == 7
			}
		}
		return false
	})
	eventually(t, 10*time.Second, "another hall goes on", func() bool {
		r.publish(other.Stream("visits"), encode(other, []item{{epoch: first, sequence: 1}, {epoch: first, sequence: 8}}))
		items, _ := applied(t, r.db, other)
		return len(items) == 1
	})
	broken.Store(false)
	r.expect("1 3 4 7 8 9 11")
	r.gap(first, 13, wire.Gap{Epoch: first, From: 13, To: 12, Count: 1, Reason: "size"})
	r.gap(first, 14, wire.Gap{Epoch: first, From: 14, To: 14, Count: math.MaxUint64, Reason: "size"})
	r.gap(first, 15, wire.Gap{Epoch: first, From: 15, To: 15, Count: 1, Reason: "no\x00reason"}) // PostgreSQL keeps no such string
	r.comes(first, 12)
	r.books("rejected", func(s Stream) bool {
		return s.Applied == 8 && s.Rejected == 6 && s.Mark == 15 && s.Gaps["no\ufffdreason"] == 1
	})
	err := r.db.View(t.Context(), func(tx *sql.Tx) error {
		rows, err := tx.Query("SELECT sequence, error, event FROM inbox_rejected ORDER BY sequence")
		if err != nil {
			return err
		}
		defer rows.Close()
		var got []string
		for rows.Next() {
			var sequence uint64
			var why, event string
			if err := rows.Scan(&sequence, &why, &event); err != nil {
				return err
			}
			if events, err := wire.Decode([]byte(event)); err != nil || len(events) != 1 || events[0].Sequence != fmt.Sprintf("%020d", sequence) {
				t.Errorf("the event of %d is %s, %v", sequence, event, err)
			}
			got = append(got, fmt.Sprint(sequence, " ", why))
		}
		if len(got) != 6 || got[0] != "2 no such door" || !strings.Contains(got[1], "nowhere") || !strings.HasPrefix(got[4], "13 gap") || !strings.HasPrefix(got[5], "14 gap") {
			t.Errorf("rejected: %q", got)
		}
		return rows.Err()
	})
	if err != nil {
		t.Error(err)
	}
}

// Marks of closed epochs are deleted after thirty days, and what comes of them
// then is late; the books stay.
func testOldEpochs(t *testing.T, url string) {
	r := newRules(t, url, write)
	r.comes(first, 1, 2)
	r.expect("1 2")
	r.comes(second, 1)
	r.expect("1 2 b1")
	if err := r.db.Tx(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE inbox_mark SET changed = changed - $1 WHERE epoch = $2", (31 * 24 * time.Hour).Milliseconds(), first)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r.l.stop()
	r.l = r.begin("b", write, true)
	r.books("books are kept", func(s Stream) bool { return s.Applied == 3 })
	r.comes(first, 1, 3)
	r.books("late", func(s Stream) bool { return s.Late == 2 })
	r.comes(second, 2)
	r.expect("1 2 b1 b2")

	// One that begins with what an old store lost waits for nothing that is closed.
	r.a.add("000003-00000002", 1)
	r.gap("000003-00000002", 1, wire.Gap{Epoch: first, From: 9, To: 9, Count: 1, Reason: "salvage"})
	r.expect("1 2 b1 b2 000003-00000002/1 | a 9 9 1 salvage")
}

// A new epoch waits for the end of the old one, but not for ever. What comes of it
// then is acknowledged, so that the agent gets rid of it.
func testVain(t *testing.T, url string) {
	r := newRules(t, url, write)
	r.comes(first, 1, 2)
	r.expect("1 2")
	r.gap(second, 1, wire.Gap{Epoch: first, From: 6, To: 7, Count: 2, Reason: "salvage"})
	r.expect("1 2 5 b1 | a 3 5 3 restore, a 6 7 2 salvage")
	asked := 0
	for _, w := range r.words() {
		if w == (wire.Ack{Epoch: first, Upto: 2, Resend: true}) {
			asked++
		}
	}
	if asked < vain {
		t.Errorf("asked %d times", asked)
	}
	r.comes(first, 4, 5)
	eventually(t, 10*time.Second, "the old epoch is acknowledged", func() bool {
		return slices.Contains(r.words(), wire.Ack{Epoch: first, Upto: 7})
	})
	r.comes(second, 2)
	r.expect("1 2 5 b1 b2 | a 3 5 3 restore, a 6 7 2 salvage")
}

// Records of an epoch that counts from anew are dropped, and the hall says so,
// until the newest epoch goes on.
func testStrange(t *testing.T, url string) {
	r := newRules(t, url, write)
	trouble := func() string {
		for _, h := range r.l.in.Status().Halls {
			if h.ID == hallOne.ID {
				return h.Err
			}
		}
		return ""
	}
	r.comes(first, 1)
	r.comes(second, 1)
	r.expect("1 b1")
	r.comes(first, 3) // late, too, but of an epoch that was heard of
	r.books("late", func(s Stream) bool { return s.Late == 1 })
	if got := trouble(); got != "" {
		t.Error(got)
	}
	r.comes("000001-00000007", 1, 2)
	r.books("late", func(s Stream) bool { return s.Late == 3 })
	if got := trouble(); !strings.HasPrefix(got, "records of visits are dropped: epoch 000001-00000007 is older than "+second) || !strings.Contains(got, "boot file") {
		t.Errorf("the hall says %q", got)
	}
	r.comes(second, 2)
	r.expect("1 b1 b2")
	eventually(t, 10*time.Second, "the trouble is over", func() bool { return trouble() == "" })
}

// An instance whose lease was taken applies nothing, though nobody told it.
func testFence(t *testing.T, url string) {
	r := newRules(t, url, write)
	r.l.stop()
	r.life = time.Hour
	r.l = r.begin("b", write, true)
	eventually(t, 10*time.Second, "the hall is served", func() bool { return r.l.serves() == 1 })
	r.comes(first, 1)
	r.expect("1")
	if err := r.db.Tx(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE inbox_lease SET holder = 'thief', token = token + 1")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r.comes(first, 2)
	eventually(t, 10*time.Second, "the hall is given up", func() bool { return r.l.serves() == 0 })
	if w := r.l.word(hallOne); w != "" {
		t.Errorf("it would still acknowledge %s", w)
	}
	r.expect("1")
}

// The database's clock is set back while an instance is dead: neither that
// instance nor its lease counts.
func testClock(t *testing.T, url string) {
	r := newRules(t, url, write)
	r.l.stop()
	hour := time.Hour.Milliseconds()
	if err := r.db.Tx(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.Exec("INSERT INTO inbox_instance (service, instance, seen) VALUES ('queue', 'dead', "+r.db.Now()+" + $1)", hour); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE inbox_lease SET holder = 'dead', token = token + 1, expires = "+r.db.Now()+" + $1", hour)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r.l = r.begin("b", write, true)
	eventually(t, 10*time.Second, "the hall is served", func() bool { return r.l.serves() == 1 })
	if n := r.l.in.Status().Instances; n != 1 {
		t.Errorf("%d instances", n)
	}
}

// A database that is new lacks what the agent gave away before: it gets a gap of
// that, but only once the agent was asked, and none of what the agent still has.
func testRestored(t *testing.T, url string) {
	r := newRules(t, url, write)
	r.say("000001-000000001", wire.Ready, first, 9, 3) // up to 6 were given away
	r.comes(first, 9)
	r.expect("6 | a 1 6 6 restore")
	asked := func(upto uint64) (n int) {
		for _, w := range r.words() {
			if w == (wire.Ack{Epoch: first, Upto: upto, Resend: true}) {
				n++
			}
		}
		return n
	}
	if n := asked(0); n < vain {
		t.Errorf("asked %d times", n)
	}
	eventually(t, 10*time.Second, "asked in vain for what the agent has", func() bool { return asked(6) > vain })
	r.comes(first, 8)
	r.comes(first, 7)
	r.expect("6 7 8 9 | a 1 6 6 restore")
	r.say("000001-000000001", wire.Ready, first, 20, 0) // nothing is left to come
	r.expect("6 7 8 9 20 | a 1 6 6 restore, a 10 20 11 restore")
	r.books("books", func(s Stream) bool { return s.Gaps["restore"] == 17 && s.Mark == 20 })
}

// A database that is new, and an agent that still holds salvaged records of two
// old epochs: they have their effect, and the agent gets rid of all it has.
func testSalvaged(t *testing.T, url string) {
	const third = "000003-00000002"
	w := newWorld(t, url)
	w.life = time.Minute
	w.remind = 100 * time.Millisecond
	db := w.open()
	a := w.agent(hallOne)
	own := func(epoch string, from, to uint64) {
		for s := from; s <= to; s++ {
			a.items = append(a.items, item{epoch: epoch, sequence: s})
		}
	}
	own(first, 51, 60)
	a.items = append(a.items, item{second, 1, &wire.Gap{Epoch: first, From: 61, To: 60, Reason: "salvage"}})
	own(second, 2, 5)
	a.items = append(a.items, item{third, 1, &wire.Gap{Epoch: second, From: 6, To: 7, Count: 2, Reason: "salvage"}})
	own(third, 2, 3)
	l := w.begin("a", write, true)
	random := rand.New(rand.NewPCG(1, 1))
	eventually(t, 20*time.Second, "all acknowledged", func() bool {
		a.say("000001-000000001", wire.Ready)
		a.send(random, 0)
		return a.done()
	})
	s := l.books(hallOne)
	l.stop()
	a.items = slices.Insert(a.items, 0, item{first, 50, &wire.Gap{Epoch: first, From: 1, To: 50, Count: 50, Reason: "restore"}})
	a.check(db)
	if s.Late != 0 || s.Gaps["restore"] != 50 || s.Gaps["salvage"] != 2 || s.Epoch != third {
		t.Errorf("%+v", s)
	}
}
