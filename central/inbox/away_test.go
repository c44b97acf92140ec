package inbox

import (
	"context"
	"database/sql"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/wire"
)

// cable is a way to a database that can go dead without a word, as when its host
// vanishes.
type cable struct {
	url string

	mu   sync.Mutex
	dead chan struct{} // closed while it passes
}

func newCable(t *testing.T, database string) *cable {
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{dead: make(chan struct{})}
	close(c.dead)
	host := u.Host
	u.Host = l.Addr().String()
	c.url = u.String()
	var conns sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	conns.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", host)
			if err != nil {
				near.Close()
				continue
			}
			stop := context.AfterFunc(ctx, func() { near.Close(); far.Close() })
			pass := func(to, from net.Conn) {
				defer stop()
				defer to.Close()
				io.Copy(&end{ctx, c, to}, from)
			}
			conns.Go(func() { pass(far, near) })
			conns.Go(func() { pass(near, far) })
		}
	})
	t.Cleanup(func() { l.Close(); cancel(); conns.Wait() })
	return c
}

// die lets nothing pass until revive.
func (c *cable) die() {
	c.mu.Lock()
	c.dead = make(chan struct{})
	c.mu.Unlock()
}

func (c *cable) revive() {
	c.mu.Lock()
	close(c.dead)
	c.mu.Unlock()
}

// end of a connection over a cable.
type end struct {
	ctx context.Context
	c   *cable
	net.Conn
}

func (e *end) Write(b []byte) (int, error) {
	e.c.mu.Lock()
	dead := e.c.dead
	e.c.mu.Unlock()
	select {
	case <-dead:
		return e.Conn.Write(b)
	case <-e.ctx.Done():
		return 0, e.ctx.Err()
	}
}

// A holder whose database vanishes leaves its halls while another takes them, and
// would not repeat its acknowledgements to the broker; when the database is there
// again, both share.
func testDatabaseVanishes(t *testing.T, direct string) {
	c := newCable(t, direct)
	w := newWorld(t, c.url)
	r := &rules{world: w, t: t, a: w.agent(hallOne)}
	r.a.items = []item{{epoch: first, sequence: 1 << 40}}
	r.l = w.begin("a", write, true)
	w.url = direct
	r.db = w.open()
	eventually(t, 10*time.Second, "the hall is served", func() bool {
		w.publish(hallOne.Status(), []byte("{}"))
		return r.l.serves() == 1
	})
	r.comes(first, 1)
	r.expect("1")
	eventually(t, 10*time.Second, "it is acknowledged", func() bool { return r.l.word(hallOne) != "" })

	c.die()
	r.comes(first, 2) // it hangs in a transaction
	eventually(t, txLimit*2/3, "its acknowledgement is forgotten", func() bool { return r.l.word(hallOne) == "" })
	b := w.begin("b", write, true)
	eventually(t, 10*time.Second, "another serves the hall, and only that", func() bool { return b.serves() == 1 && r.l.serves() == 0 })
	r.comes(first, 2)
	r.expect("1 2")
	eventually(t, 10*time.Second, "it is acknowledged", func() bool { return b.word(hallOne) != "" })
	if word := r.l.word(hallOne); word != "" {
		t.Errorf("it would still acknowledge %s", word)
	}
	c.revive()
	eventually(t, 15*time.Second, "both are there", func() bool {
		return r.l.in.Status().Instances == 2 && b.in.Status().Instances == 2 && r.l.serves()+b.serves() == 1
	})
}

// A statement that does not end is given up, and tried again.
func testTransactionLimit(t *testing.T, url string) {
	w := newWorld(t, url)
	r := &rules{world: w, t: t, a: w.agent(hallOne), db: w.open()}
	r.a.items = []item{{epoch: first, sequence: 1 << 40}}
	w.life = time.Minute
	w.txLimit = 500 * time.Millisecond
	var hung atomic.Bool
	r.l = w.begin("a", func(ctx context.Context, tx *sql.Tx, r Record) error {
		if hung.CompareAndSwap(false, true) {
			if _, err := tx.ExecContext(ctx, "SELECT pg_sleep(3600)"); err != nil {
				return err
			}
		}
		return write(ctx, tx, r)
	}, true)
	eventually(t, 10*time.Second, "the hall is served", func() bool {
		w.publish(hallOne.Status(), []byte("{}"))
		return r.l.serves() == 1
	})
	r.comes(first, 1)
	r.expect("1")
}

// An instance without the broker gives its halls up and does not count.
func TestBrokerAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, filepath.Join(t.TempDir(), "central.db"))
	agents := w.halls(2)
	a, b := w.begin("a", write, true), w.begin("b", write, true)
	eventually(t, 10*time.Second, "a hall each", func() bool {
		for _, a := range agents {
			a.say("000001-000000001", wire.Ready)
		}
		return a.serves() == 1 && b.serves() == 1
	})
	a.hangUp()
	eventually(t, 10*time.Second, "the other serves both, and counts alone", func() bool {
		return a.serves() == 0 && b.serves() == 2 && b.in.Status().Instances == 1
	})
	a.connect()
	eventually(t, 10*time.Second, "a hall each again", func() bool {
		return a.serves() == 1 && b.serves() == 1 && b.in.Status().Instances == 2
	})
}
