package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

// run runs a client until stop is called or the test ends.
func run(t testing.TB, o Options, adjust ...func(*Client)) (c *Client, stop func()) {
	if o.ClientID == "" {
		o.ClientID = "hallagent-371003-wendeng"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c = New(o)
	c.backoff = func(attempt int) time.Duration { return 20 * time.Millisecond }
	c.writeTimeout = 500 * time.Millisecond // of paho's wait when a connection breaks
	for _, f := range adjust {
		f(c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return c, stop
}

func connected(t testing.TB, c *Client) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := c.Session(ctx)
	if err != nil {
		t.Fatalf("no session: %v, %+v", err, c.Status())
	}
	return s
}

// publish waits for the confirmation.
func publish(t testing.TB, c *Client, topic string, retain bool, payload string) error {
	t.Helper()
	done := make(chan error, 1)
	c.Publish(connected(t, c), topic, retain, []byte(payload), func(err error) { done <- err })
	return <-done
}

// listener is a second client that hears everything.
type listener struct {
	t    testing.TB
	came chan string // "topic=payload", with " r" when retained
}

func listen(t testing.TB, url string) *listener { return listenWith(t, Options{URL: url}) }

func listenWith(t testing.TB, o Options) *listener {
	l := &listener{t, make(chan string, 10_000)}
	o.ClientID, o.Subscriptions = "listener", []string{"#"}
	o.Handle = func(topic string, payload []byte, retained bool) {
		text := topic + "=" + string(payload)
		if retained {
			text += " r"
		}
		l.came <- text
	}
	c, _ := run(t, o)
	connected(t, c)
	return l
}

func (l *listener) expect(want ...string) {
	l.t.Helper()
	for _, w := range want {
		select {
		case got := <-l.came:
			if got != w {
				l.t.Fatalf("came %q, want %q", got, w)
			}
		case <-time.After(10 * time.Second):
			l.t.Fatalf("%q did not come", w)
		}
	}
}

func until(t testing.TB, c *Client, what string, ok func(Status) bool) Status {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		if s := c.Status(); ok(s) {
			return s
		}
		select {
		case <-deadline:
			t.Fatalf("not %s: %+v", what, c.Status())
		case <-time.After(time.Millisecond):
		}
	}
}

func TestConnectBirthFarewell(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	l := listen(t, b.URL)
	c, stop := run(t, Options{
		URL:      b.URL,
		Birth:    func(n uint64) Message { return Message{"status", true, fmt.Appendf(nil, "ready %d", n)} },
		Farewell: func() Message { return Message{"status", true, []byte("stopping")} },
	})
	c.Retain("occupancy", []byte("12"))
	if err := publish(t, c, "visits", false, "one"); err != nil {
		t.Fatal(err)
	}
	l.expect("status=ready 1")
	if first := <-l.came; first != "occupancy=12" {
		t.Errorf("after the birth came %q", first)
	}
	l.expect("visits=one")
	s := until(t, c, "idle", func(s Status) bool { return s.InFlight == 0 })
	if s.State != Connected || s.Connects != 1 || s.Code != "" {
		t.Errorf("status %+v", s)
	}
	stop()
	l.expect("status=stopping")
	late, err := c.Session(t.Context())
	if late != nil || !errors.Is(err, errStopped) {
		t.Errorf("session after the end: %v", err)
	}
}

func TestSubscription(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{ACL: "topic readwrite ack/#\ntopic readwrite visits\n"})
	came := make(chan string, 10)
	c, _ := run(t, Options{URL: b.URL, Subscriptions: []string{"ack/+", "ack/+"},
		Handle: func(topic string, payload []byte, retained bool) {
			came <- fmt.Sprintf("%s=%s %t", topic, payload, retained)
		}})
	for i := range 3 {
		if err := publish(t, c, "ack/visits", i == 2, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		if got, want := <-came, fmt.Sprintf("ack/visits=%d false", i); got != want {
			t.Errorf("came %s, want %s", got, want)
		}
	}
}

// proxy stands between client and broker so that connections can be cut.
type proxy struct {
	url  string
	mu   sync.Mutex
	live []net.Conn
}

func newProxy(t testing.TB, broker string) *proxy {
	u, err := url.Parse(broker)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{url: "mqtt://" + l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", u.Host)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.live = append(p.live, in, out)
			p.mu.Unlock()
			wg.Go(func() { io.Copy(out, in); in.Close(); out.Close() })
			wg.Go(func() { io.Copy(in, out); in.Close(); out.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cut()
		wg.Wait()
	})
	return p
}

// cut closes every connection as a pulled cable would, without a good-bye.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.live {
		c.Close()
	}
	p.live = nil
}

func TestWillAndReconnect(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	l := listen(t, b.URL)
	p := newProxy(t, b.URL)
	c, _ := run(t, Options{
		URL:   p.url,
		Will:  func(n uint64) Message { return Message{"status", true, fmt.Appendf(nil, "lost %d", n)} },
		Birth: func(n uint64) Message { return Message{"status", true, fmt.Appendf(nil, "ready %d", n)} },
	})
	first := connected(t, c)
	l.expect("status=ready 1")
	p.cut()
	<-first.Done()
	second := connected(t, c)
	l.expect("status=lost 1", "status=ready 2")
	done := make(chan error, 1)
	c.Publish(first, "visits", false, nil, func(err error) { done <- err })
	if err := <-done; !errors.Is(err, ErrLost) {
		t.Errorf("publish to a session that is over: %v", err)
	}
	if second.Err() != nil || c.Status().Connects != 2 {
		t.Errorf("status %+v", c.Status())
	}
}

func TestRetained(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{}) // without persistence: it forgets
	c, _ := run(t, Options{URL: b.URL})
	connected(t, c)
	for i := range 10 {
		c.Retain("devices/rd-05", fmt.Appendf(nil, "%d", i))
	}
	c.Retain("occupancy", []byte("12"))
	if err := publish(t, c, "visits", false, "behind the states"); err != nil {
		t.Fatal(err)
	}
	b.Kill()
	until(t, c, "waiting", func(s Status) bool { return s.State == Waiting })
	c.Retain("occupancy", []byte("13"))
	b.Restart()
	connected(t, c)
	l := listen(t, b.URL)
	l.expect("devices/rd-05=9 r", "occupancy=13 r")
	c.Retain("occupancy", nil)
	l.expect("occupancy=")
	until(t, c, "idle", func(s Status) bool { return s.InFlight == 0 })
	c.mu.Lock()
	left := fmt.Sprint(c.order)
	c.mu.Unlock()
	if left != "[devices/rd-05]" {
		t.Errorf("states kept: %s", left)
	}
}

// A state goes out ahead of a backlog that waits in the session.
func TestStateOvertakesBacklog(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	l := listen(t, b.URL)
	c, _ := run(t, Options{URL: b.URL})
	s := connected(t, c)
	inner := sessionOf(s)
	var wg sync.WaitGroup
	inner.mu.Lock() // hold the pump while the backlog forms
	for range 60 {
		wg.Add(1)
		inner.queue = append(inner.queue, item{Message{"visits", false, []byte("backlog")}, func(error) { wg.Done() }})
	}
	inner.dirty = append(inner.dirty, "occupancy")
	c.states["occupancy"] = &retained{payload: []byte("12"), version: 1}
	c.inFlight.Add(60)
	inner.mu.Unlock()
	inner.signal()
	l.expect("occupancy=12", "visits=backlog")
	wg.Wait()
}

// Every done is called once, and nil only for what the broker has confirmed,
// though it is killed in the midst of it.
func TestKilledInMidPublish(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	c, stop := run(t, Options{URL: b.URL})
	var mu sync.Mutex
	calls := map[int]int{}
	good, lost, n := 0, 0, 0
	for round := range 3 {
		s := connected(t, c)
		window := make(chan struct{}, 64)
		for i := 0; s.Err() == nil; i++ {
			window <- struct{}{}
			id := n
			n++
			c.Publish(s, "visits", false, make([]byte, 2000), func(err error) {
				mu.Lock()
				calls[id]++
				if err == nil {
					good++
				} else {
					lost++
				}
				mu.Unlock()
				<-window
			})
			if i == 500+300*round {
				b.Kill()
			}
		}
		b.Restart()
	}
	connected(t, c)
	stop()
	mu.Lock()
	defer mu.Unlock()
	for id := range n {
		if calls[id] != 1 {
			t.Fatalf("done of message %d of %d was called %d times", id, n, calls[id])
		}
	}
	if lost == 0 || good < 1500 {
		t.Errorf("%d confirmed, %d lost", good, lost)
	}
	if s := c.Status(); s.InFlight != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestNoGoroutineStays(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	p := newProxy(t, b.URL)
	c, stop := run(t, Options{URL: p.url, Subscriptions: []string{"ack/+"}})
	s := connected(t, c)
	count := func(limit int) int {
		n := 0
		for range 1000 { // what is ending takes a moment
			if n = runtime.NumGoroutine(); n <= limit {
				return n
			}
			time.Sleep(5 * time.Millisecond)
		}
		return n
	}
	base := runtime.NumGoroutine()
	for range 50 {
		p.cut()
		<-s.Done()
		s = connected(t, c)
	}
	if got := c.Status().Connects; got != 51 {
		t.Fatalf("%d connects", got)
	}
	if n := count(base); n > base {
		stacks := make([]byte, 1<<16)
		t.Errorf("%d goroutines at first, %d after 50 reconnects\n%s", base, n, stacks[:runtime.Stack(stacks, true)])
	}
	stop()
}

func TestJitter(t *testing.T) {
	for attempt, bound := range []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second} {
		for range 100 {
			if d := jitter(attempt); d < 0 || d >= bound {
				t.Fatalf("attempt %d waits %v", attempt, d)
			}
		}
	}
	longest := time.Duration(0)
	for range 200 {
		longest = max(longest, jitter(1_000_000))
	}
	if longest >= 15*time.Second || longest < 10*time.Second {
		t.Errorf("longest wait %v", longest)
	}
}
