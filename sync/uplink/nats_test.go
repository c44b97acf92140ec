package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/mqtt/nats"
	"github.com/hallagent/hallagent/sync/outbox"
)

const (
	natsRecords  = 20_000
	natsMessage  = 2 << 10 // bytes
	natsPassword = "of tests"
	natsPatience = 90 * time.Second
)

// city is a cluster and its users' password.
type city struct {
	*nats.Cluster
	t        *testing.T
	password string // file
	roots    *x509.CertPool
	service  *nats.Node // where consumers are connected
}

func startCity(t *testing.T) *city {
	c := &city{Cluster: nats.Start(t, nats.Options{Passwords: fmt.Sprintf("371003/central:%[1]s\n371003/broker:%[1]s\nqueue:%[1]s\n", natsPassword)}), t: t}
	c.password = filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(c.password, []byte(natsPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	c.roots = x509.NewCertPool()
	c.roots.AppendCertsFromPEM([]byte(c.Authority.Read("ca.pem")))
	c.service = c.Nodes[0]
	startQueue(t, c, "first", false) // the gateway makes its streams when somebody comes
	c.service = c.Other(c.Leader(nats.Messages))
	return c
}

func (c *city) options(user, id string) mqtt.Options {
	return mqtt.Options{ClientID: id, Username: user, PasswordFile: c.password, CAFile: c.Authority.CAFile(),
		Log: slog.New(slog.DiscardHandler)}
}

// front forwards the connections of a client to a server that lives, as what
// stands in front of a cluster does; each new connection goes to the next one.
type front struct {
	url   string
	nodes []*nats.Node

	mu    sync.Mutex
	conns map[net.Conn]*nats.Node
}

func startFront(t *testing.T, nodes ...*nats.Node) *front {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{url: fmt.Sprintf("mqtts://localhost:%d", l.Addr().(*net.TCPAddr).Port), nodes: nodes, conns: map[net.Conn]*nats.Node{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for next := 0; ; next++ {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out := f.dial(&next)
			if out == nil {
				in.Close()
				continue
			}
			wg.Go(func() { io.Copy(out, in); in.Close(); out.Close() })
			wg.Go(func() { io.Copy(in, out); in.Close(); out.Close(); f.gone(out) })
		}
	})
	t.Cleanup(func() { l.Close(); f.cut(); wg.Wait() })
	return f
}

func (f *front) dial(next *int) net.Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range f.nodes {
		n := f.nodes[*next%len(f.nodes)]
		if out, err := net.Dial("tcp", n.Addr); err == nil {
			f.conns[out] = n
			return out
		}
		*next++
	}
	return nil
}

func (f *front) gone(out net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, out)
}

// cut breaks what is connected.
func (f *front) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for out := range f.conns {
		out.Close()
	}
}

// node is the server that the client is connected to.
func (f *front) node() *nats.Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.conns {
		return n
	}
	return nil
}

// line is a client and the front it goes through.
type line struct {
	*mqtt.Client
	front *front
}

func startLine(t *testing.T, o mqtt.Options, nodes ...*nats.Node) *line {
	l := &line{front: startFront(t, nodes...)}
	o.URL = l.front.url
	l.Client = mqtt.New(o)
	return l
}

// queue is a consumer that puts what comes out of turn aside until its turn, as
// the gateway sends again out of turn what was on its way when a server died.
type queue struct {
	c      *city
	node   *nats.Node // where it is connected
	id     string
	prefix string // of the hall's topics
	ready  chan struct{}

	mu         sync.Mutex
	upto       int // everything up to here came
	aside      map[int]bool
	duplicates int
	late       int // came after one that follows it
	arrivals   []time.Time
	news       chan struct{}
}

// startQueue starts a consumer. It keeps its session, as one must whose broker
// acknowledges: the gateway may hang up on it while there is no leader.
func startQueue(t *testing.T, c *city, hall string, central bool) *queue {
	q := &queue{c: c, node: c.service, id: "queue-of-" + hall, prefix: "hall/v1/371003/" + hall + "/", ready: make(chan struct{}),
		aside: map[int]bool{}, news: make(chan struct{})}
	background(t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			q.session(ctx, central)
		}
		return nil
	})
	select {
	case <-q.ready:
	case <-time.After(natsPatience):
		t.Fatal("the consumer does not get in")
	}
	return q
}

// session is one connection of a consumer.
func (q *queue) session(ctx context.Context, central bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := paho.NewClient(paho.NewClientOptions().AddBroker("ssl://" + q.node.Addr).SetTLSConfig(&tls.Config{RootCAs: q.c.roots, ServerName: "localhost"}).
		SetUsername("queue").SetPassword(natsPassword).SetClientID(q.id).SetCleanSession(false).SetAutoReconnect(false).
		SetConnectionLostHandler(func(paho.Client, error) { cancel() }).
		SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { q.take(m.Payload()) }))
	if token := client.Connect(); !token.WaitTimeout(natsPatience) || token.Error() != nil {
		return
	}
	defer client.Disconnect(50)
	token := client.Subscribe(q.prefix+"visits", 1, nil)
	if !token.WaitTimeout(natsPatience) || token.Error() != nil || token.(*paho.SubscribeToken).Result()[q.prefix+"visits"] != 1 {
		return
	}
	select {
	case <-q.ready:
	default:
		close(q.ready)
	}
	if central {
		q.acknowledge(ctx, client)
	}
	<-ctx.Done()
}

func (q *queue) take(b []byte) {
	var p payload
	if err := json.Unmarshal(b, &p); err != nil {
		panic(err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	fresh := false
	for _, v := range p.Values {
		number, _, _ := strings.Cut(v, "=")
		seq, err := strconv.Atoi(number)
		if err != nil {
			panic(err)
		}
		if seq <= q.upto || q.aside[seq] {
			q.duplicates++
			continue
		}
		fresh = true
		q.aside[seq] = true
		if len(q.aside) > 1 && seq == q.upto+1 {
			q.late++
		}
		for q.aside[q.upto+1] {
			q.upto++
			delete(q.aside, q.upto)
		}
	}
	if fresh {
		q.arrivals = append(q.arrivals, time.Now())
		close(q.news)
		q.news = make(chan struct{})
	}
}

// acknowledge says every 50 ms how far it is; when that stays behind what came,
// or nothing comes any more, it asks to send again.
func (q *queue) acknowledge(ctx context.Context, client paho.Client) {
	last, still := -1, 0
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		q.mu.Lock()
		n := q.upto
		q.mu.Unlock()
		if still++; n != last {
			still = 0
		}
		resend := still >= 10
		if resend {
			still = 0
		}
		word := fmt.Sprintf(`{"epoch":%q,"upto":%d,"resend":%t}`, epoch, n, resend)
		client.Publish(q.prefix+"ack/visits", 1, !resend, word)
		last = n
	}
}

// wait waits until everything up to n came, without a hole.
func (q *queue) wait(t *testing.T, n int) {
	t.Helper()
	for deadline := time.After(natsPatience); ; {
		q.mu.Lock()
		upto, aside, news := q.upto, len(q.aside), q.news
		q.mu.Unlock()
		if upto >= n {
			return
		}
		select {
		case <-news:
		case <-deadline:
			t.Fatalf("records up to %d of %d came, and %d beyond a hole", upto, n, aside)
		}
	}
}

// pause is the longest time without anything new that ended after an instant.
func (q *queue) pause(after time.Time) (longest time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, at := range q.arrivals {
		if i > 0 && at.After(after) {
			longest = max(longest, at.Sub(q.arrivals[i-1]))
		}
	}
	return longest
}

// sender is an agent's way up through the cluster, with a backlog.
type sender struct {
	hall
	client *line
	queue  *queue // at the other end
	name   string
}

// newSender makes the agent of a hall and starts its consumer. Both ways of
// acknowledging are tried at once, by halls of their names.
func newSender(t *testing.T, c *city, name string, rate int) *sender {
	h := &sender{name: name, queue: startQueue(t, c, name, name == "central")}
	h.box = outbox.New(outbox.Options{Path: filepath.Join(t.TempDir(), "visits.db"), Stream: "visits", Log: slog.New(slog.DiscardHandler),
		NewEpoch: func(string) (string, string, error) { return epoch, "", nil }})
	background(t, h.box.Run)
	<-h.box.Opened()
	fill(t, h.box)

	o := c.options("371003/"+name, "hallagent-371003-"+name)
	o.Subscriptions = []string{h.queue.prefix + "ack/+", h.queue.prefix + "echo/+"}
	o.Handle = func(_ string, b []byte, _ bool) {
		var word struct {
			Epoch  string
			Upto   uint64
			Resend bool
		}
		if err := json.Unmarshal(b, &word); err != nil {
			t.Error(err)
		}
		h.up.Acknowledged(word.Epoch, word.Upto, word.Resend)
	}
	others := slices.DeleteFunc(slices.Clone(c.Nodes[:]), func(n *nats.Node) bool { return n == c.service })
	h.client = startLine(t, o, others...)
	h.up = New(Options{Outbox: h.box, Publisher: h.client.Client, Topic: h.queue.prefix + "visits", Encode: encode, Central: name == "central",
		Rate: rate, MaxBytes: natsMessage, Log: o.Log})
	return h
}

// fill puts the backlog on disk.
func fill(t *testing.T, box *outbox.Outbox) {
	const writers = 500
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range natsRecords / writers {
				if _, err := box.Append(context.Background(), []byte("visit")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// drain sends backlogs, rate records per second, and takes a step at each quarter. What arrives is whole
// and in order, once duplicates are dropped and late ones put in their place.
//
// The consumers stay on a server that lives.
func (c *city) drain(t *testing.T, rate int, steps ...func(agent *line) string) {
	halls := []*sender{newSender(t, c, "central", rate), newSender(t, c, "broker", rate)}
	defer func() {
		for _, h := range halls {
			if t.Failed() {
				t.Logf("%s: uplink %+v, agent %+v", h.name, h.up.Status(), h.client.Status())
			}
		}
	}()
	for _, h := range halls {
		background(t, h.up.Run)
		background(t, h.client.Run)
	}
	for i, step := range steps {
		for _, h := range halls {
			h.queue.wait(t, natsRecords*(i+1)/4)
		}
		began := time.Now()
		what := step(halls[0].client)
		for _, h := range halls {
			h.queue.wait(t, natsRecords*(i+2)/4)
			t.Logf("%s killed, acknowledged by %s: nothing new for %v", what, h.name, h.queue.pause(began).Round(10*time.Millisecond))
		}
	}
	for _, h := range halls {
		h.queue.wait(t, natsRecords)
		ctx, cancel := context.WithTimeout(t.Context(), natsPatience)
		defer cancel()
		if err := h.up.Flush(ctx); err != nil {
			t.Fatalf("flush %s: %v, %+v", h.name, err, h.up.Status())
		}
		if s := h.box.Status(); s.AcknowledgedCount != natsRecords || s.Pending != 0 || len(s.Dropped) != 0 {
			t.Errorf("books of %s: %+v", h.name, s)
		}
		h.queue.mu.Lock()
		t.Logf("acknowledged by %s: %d records, %d duplicates, %d late; the agent connected %d times", h.name,
			h.queue.upto, h.queue.duplicates, h.queue.late, h.client.Status().Connects)
		if h.queue.upto != natsRecords || len(h.queue.aside) != 0 {
			t.Errorf("%s: records up to %d, %d beyond a hole", h.name, h.queue.upto, len(h.queue.aside))
		}
		h.queue.mu.Unlock()
	}
}

// The server that leads the stream of messages is killed in the midst of two
// backlogs.
func TestNATSLeaderKilled(t *testing.T) {
	c := startCity(t)
	c.drain(t, 8000, func(*line) string {
		c.Leader(nats.Messages).Kill()
		return "leader"
	})
}

// First the leader, when it is back the server that agents are connected to, and
// when that is back the leader again.
func TestTortureNATS(t *testing.T) {
	if os.Getenv("HALLAGENT_TORTURE") == "" {
		t.Skip("with HALLAGENT_TORTURE=1")
	}
	for i := range 10 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			c := startCity(t)
			var dead *nats.Node
			c.drain(t, 1000, func(*line) string {
				dead = c.Leader(nats.Messages)
				dead.Kill()
				return "leader"
			}, func(agent *line) string {
				dead.Restart()
				dead = agent.front.node()
				dead.Kill()
				return "agents' server"
			}, func(*line) string {
				dead.Restart()
				if dead = c.Leader(nats.Messages); dead == c.service {
					dead = c.Other(c.service)
				}
				dead.Kill()
				return "another"
			})
		})
	}
}
