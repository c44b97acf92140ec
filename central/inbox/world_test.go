package inbox

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallagent/hallagent/central/store"
	"github.com/hallagent/hallagent/central/store/postgres"
	"github.com/hallagent/hallagent/sync/wire"
)

const first, second = "000001-9f3a77c2", "000002-00000001"

var hallOne = wire.Hall{Area: "371003", ID: "one"}

// What a consumer relies on holds on either database.
func TestSQLite(t *testing.T) {
	t.Parallel()
	suite(t, func(t *testing.T) string { return filepath.Join(t.TempDir(), "central.db") })
}

func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	s := postgres.Start(t, postgres.Options{})
	suite(t, func(*testing.T) string { return s.Database() })
	t.Run("database vanishes", func(t *testing.T) { testDatabaseVanishes(t, s.Database()) })
	t.Run("transaction limit", func(t *testing.T) { testTransactionLimit(t, s.Database()) })
}

func suite(t *testing.T, database func(t *testing.T) string) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, url string)
	}{
		{"rules", testRules}, {"effect errors", testEffectErrors}, {"old epochs", testOldEpochs},
		{"vain", testVain}, {"strange", testStrange}, {"fence", testFence}, {"clock", testClock}, {"restored", testRestored}, {"salvaged", testSalvaged}, {"random", testRandom},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, database(t)) })
	}
}

// world is agents and the instances of a service, joined by a lossless broker
// that keeps nothing; what is lost on the way is the agents' doing.
type world struct {
	t   testing.TB
	url string

	mu      sync.Mutex
	agents  map[wire.Hall]*agent
	links   []*link
	remind  time.Duration // agents, of what was not acknowledged; 0 = 2 s
	vain    int           // times that instances ask for the end of an epoch, 0 = as usual
	txLimit time.Duration // of instances, 0 = as usual
	life    time.Duration // of their leases, 0 = as usual, or as quick says
}

func newWorld(t testing.TB, url string) *world {
	return &world{t: t, url: url, agents: map[wire.Hall]*agent{}}
}

// publish brings a message to all instances.
func (w *world) publish(topic string, payload []byte) {
	w.mu.Lock()
	links := slices.Clone(w.links)
	w.mu.Unlock()
	for _, l := range links {
		if !l.cut.Load() {
			l.in.Handle(topic, payload, false)
		}
	}
}

// word brings an acknowledgement to the agent.
func (w *world) word(topic string, payload []byte) {
	h, _, _ := wire.ParseTopic(topic)
	w.mu.Lock()
	a := w.agents[h]
	w.mu.Unlock()
	if a != nil {
		a.word(payload)
	}
}

// link is an instance and its way to the broker.
type link struct {
	w     *world
	in    *Inbox
	db    *store.DB
	cut   atomic.Bool // nothing comes and nothing goes any more
	ctx   context.Context
	end   context.CancelFunc
	ended chan struct{}

	sessions chan context.Context // each given once
	hangUp   context.CancelFunc   // the newest
	retained sync.Map             // payloads by topic
}

// connect begins a session with the broker, which hangUp ends.
func (l *link) connect() {
	session, cancel := context.WithCancel(l.ctx)
	l.hangUp = cancel
	l.sessions <- session
}

func (l *link) Session(ctx context.Context) (context.Context, error) {
	select {
	case s := <-l.sessions:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *link) Forget(topic string) { l.retained.Delete(topic) }
func (l *link) Retain(topic string, payload []byte) {
	l.retained.Store(topic, string(payload))
	l.send(topic, payload)
}
func (l *link) Publish(_ context.Context, topic string, _ bool, payload []byte, done func(error)) {
	l.send(topic, payload)
	done(nil)
}

func (l *link) send(topic string, payload []byte) {
	if !l.cut.Load() {
		l.w.word(topic, payload)
	}
}

// begin starts an instance. quick makes its clocks run faster.
func (w *world) begin(name string, effect Effect, quick bool) *link {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	db, err := store.Open(ctx, w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	l := &link{w: w, db: db, ended: make(chan struct{}), sessions: make(chan context.Context, 1)}
	l.in = New(Options{Service: "queue", Instance: name, Streams: []string{"visits"}, Store: db, Effect: effect, Log: testLog()})
	if quick {
		l.in.opts.Reorder, l.in.resendPause = 20*time.Millisecond, 40*time.Millisecond
		l.in.leaseLife, l.in.leaseLook = 600*time.Millisecond, 50*time.Millisecond
	}
	l.in.vain = cmp.Or(w.vain, l.in.vain)
	l.in.leaseLife = cmp.Or(w.life, l.in.leaseLife)
	l.in.txLimit = cmp.Or(w.txLimit, l.in.txLimit)
	l.ctx, l.end = context.WithCancel(context.Background())
	l.connect()
	w.mu.Lock()
	w.links = append(w.links, l)
	w.mu.Unlock()
	go func() {
		defer close(l.ended)
		if err := l.in.Run(l.ctx, l); err != nil && !l.cut.Load() {
			w.t.Error(err)
		}
	}()
	w.t.Cleanup(func() { l.stop() })
	return l
}

func testLog() *slog.Logger {
	if os.Getenv("INBOX_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// stop ends an instance in good order.
func (l *link) stop() {
	l.end()
	<-l.ended
	l.cut.Store(true)
	l.db.Close()
}

// kill ends an instance so that nobody hears of it any more, and no transaction
// of it is committed from here on.
func (l *link) kill() {
	l.cut.Store(true)
	l.db.Close()
	l.end()
	<-l.ended
}

// item is one record of an agent's stream.
type item struct {
	epoch    string
	sequence uint64
	gap      *wire.Gap
}

func (i item) String() string { return fmt.Sprintf("%s/%d", i.epoch, i.sequence) }

// agent keeps a stream until it is acknowledged, and does what the contract says
// an agent does.
type agent struct {
	w    *world
	hall wire.Hall

	mu     sync.Mutex
	items  []item
	next   int // to be sent
	acked  int // items
	asked  int // resends
	words  []wire.Ack
	spoken time.Time
}

func (w *world) agent(h wire.Hall) *agent {
	a := &agent{w: w, hall: h, spoken: time.Now()}
	w.mu.Lock()
	w.agents[h] = a
	w.mu.Unlock()
	return a
}

// add appends n records of an epoch.
func (a *agent) add(epoch string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for range n {
		a.items = append(a.items, item{epoch: epoch, sequence: a.lastOf(epoch) + 1})
	}
}

func (a *agent) lastOf(epoch string) (last uint64) {
	for _, i := range slices.Backward(a.items) {
		if i.epoch == epoch {
			return i.sequence
		}
	}
	return 0
}

// lose appends a gap of n records; of is the epoch that it speaks of.
func (a *agent) lose(epoch, of string, n uint64, reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	from := a.lastOf(of) + 1
	g := &wire.Gap{Epoch: of, From: from, To: from + n - 1, Count: n, Reason: reason}
	sequence := g.To
	if of != epoch {
		sequence = a.lastOf(epoch) + 1
	}
	a.items = append(a.items, item{epoch, sequence, g})
}

func (a *agent) word(payload []byte) {
	word, err := wire.ParseAck(payload)
	if err != nil {
		a.w.t.Error(err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.words = append(a.words, word)
	a.spoken = time.Now()
	after := func(upto uint64) int {
		return sort.Search(len(a.items), func(i int) bool {
			it := a.items[i]
			return it.epoch > word.Epoch || it.epoch == word.Epoch && it.sequence > upto
		})
	}
	start, end := after(0), after(word.Upto)
	if start == len(a.items) || a.items[start].epoch != word.Epoch {
		a.w.t.Errorf("the agent is told of %s, which it never had", word.Epoch)
		return
	}
	if a.acked < start {
		return // it holds older records, and takes this word when they are gone
	}
	if end > start {
		a.acked = max(a.acked, end)
	}
	if word.Resend {
		a.asked++
		a.next = end
	}
}

// message makes a message of up to n records of one epoch, from the next on.
func (a *agent) message(n int) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.spoken) > cmp.Or(a.w.remind, 2*time.Second) {
		a.spoken, a.next = time.Now(), a.acked
	}
	end := a.next
	for end < len(a.items) && end < a.next+n {
		end++
	}
	m := encode(a.hall, a.items[a.next:end])
	a.next = end
	return m
}

// encode makes the message of some records.
func encode(h wire.Hall, items []item) (m []byte) {
	at := time.Date(2020, 11, 23, 9, 30, 0, 0, time.UTC)
	for _, i := range items {
		typ, data := wire.TypeVisit, any(wire.Visit{Door: "D1", Device: "k-D1", In: i.sequence % 3, From: at, To: at})
		if i.gap != nil {
			typ, data = wire.TypeGap, *i.gap
		}
		r, err := wire.Store(h, "k-D1", typ, at, wire.Synced, data)
		if err != nil {
			panic(err)
		}
		m = wire.AppendRecord(m, r, wire.Place{Stream: "visits", Epoch: i.epoch, Sequence: i.sequence, Recorded: at})
	}
	return m
}

// say publishes the agent's status.
func (a *agent) say(session string, state wire.AgentState) {
	a.mu.Lock()
	last := a.items[len(a.items)-1]
	s := wire.Status{State: state, Session: session, Streams: map[string]wire.StreamState{
		"visits": {Epoch: last.epoch, Last: last.sequence, Pending: uint64(len(a.items) - a.acked)}}}
	a.mu.Unlock()
	payload, err := wire.State(a.hall, a.hall.Status(), "agent", wire.TypeStatus, session, time.Now(), s)
	if err != nil {
		a.w.t.Error(err)
	}
	a.w.publish(a.hall.Status(), payload)
}

// send brings what is to be sent to the instances, with faults of a share of the
// messages: lost, twice, or after the next one.
func (a *agent) send(random *rand.Rand, faults float64) {
	var late []byte
	for range 4 {
		m := a.message(1 + random.IntN(40))
		if len(m) == 0 {
			break
		}
		deliver := [][]byte{m}
		if random.Float64() < faults {
			switch random.IntN(3) {
			case 0:
				deliver = nil
			case 1:
				deliver = append(deliver, m)
			case 2:
				m, late, deliver = late, m, nil
				if m != nil {
					deliver = [][]byte{m}
				}
			}
		}
		if late != nil && deliver != nil {
			deliver, late = append(deliver, late), nil
		}
		for _, m := range deliver {
			a.w.publish(a.hall.Stream("visits"), m)
		}
	}
}

func (a *agent) done() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.acked == len(a.items)
}

// effects is a table that shows what effects there were, in which order; nothing
// in it keeps an effect from being there twice.
const effects = `CREATE TABLE effect (id {id}, hall TEXT NOT NULL, item TEXT NOT NULL, gap TEXT NOT NULL)`

// record is the effect of the tests.
func write(ctx context.Context, tx *sql.Tx, r Record) error {
	gap := ""
	if r.Gap != nil {
		gap = fmt.Sprintf("%s %d %d %d %s", r.Gap.Epoch, r.Gap.From, r.Gap.To, r.Gap.Count, r.Gap.Reason)
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO effect (hall, item, gap) VALUES ($1, $2, $3)", name(r.Hall), item{epoch: r.Epoch, sequence: r.Sequence}.String(), gap)
	return err
}

// open makes the table of effects and gives the database.
func (w *world) open() *store.DB {
	w.t.Helper()
	db, err := store.Open(context.Background(), w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { db.Close() })
	if err := db.Migrate(context.Background(), "test", []string{effects}); err != nil {
		w.t.Fatal(err)
	}
	return db
}

// applied gives the effects of a hall in their order.
func applied(t testing.TB, db *store.DB, h wire.Hall) (items, gaps []string) {
	t.Helper()
	err := db.View(context.Background(), func(tx *sql.Tx) error {
		rows, err := tx.Query("SELECT item, gap FROM effect WHERE hall = $1 ORDER BY id", name(h))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var i, g string
			if err := rows.Scan(&i, &g); err != nil {
				return err
			}
			items = append(items, i)
			if g != "" {
				gaps = append(gaps, g)
			}
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return items, gaps
}

// check makes sure that each record of an agent had its effect once and in order.
func (a *agent) check(db *store.DB) {
	a.w.t.Helper()
	got, gaps := applied(a.w.t, db, a.hall)
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range max(len(got), len(a.items)) {
		if i >= len(got) || i >= len(a.items) || got[i] != a.items[i].String() {
			a.w.t.Fatalf("%s: effect %d of %d is wrong, the agent has %d records: %v, want %v", name(a.hall), i, len(got), len(a.items),
				got[min(i, len(got)):min(i+3, len(got))], a.items[min(i, len(a.items)):min(i+3, len(a.items))])
		}
	}
	var want []string
	for _, i := range a.items {
		if g := i.gap; g != nil {
			want = append(want, fmt.Sprintf("%s %d %d %d %s", g.Epoch, g.From, g.To, g.Count, g.Reason))
		}
	}
	if !slices.Equal(gaps, want) {
		a.w.t.Errorf("%s: gaps %v, want %v", name(a.hall), gaps, want)
	}
}

// eventually waits for something to become true.
func eventually(t testing.TB, patience time.Duration, what string, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !true(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// books gives an instance's books of a hall's visits.
func (l *link) books(h wire.Hall) Stream {
	for _, v := range l.in.Status().Halls {
		if v.Area == h.Area && v.ID == h.ID && v.Serving {
			return v.Streams[0]
		}
	}
	return Stream{}
}

func (l *link) serves() (n int) {
	for _, v := range l.in.Status().Halls {
		if v.Serving {
			n++
		}
	}
	return n
}

// word is what is retained on a hall's acknowledgements.
func (l *link) word(h wire.Hall) string {
	v, _ := l.retained.Load(h.Ack("visits"))
	s, _ := v.(string)
	return s
}
