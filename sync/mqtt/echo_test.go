//go:build unix

package mqtt

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

const (
	echoTopic = "hall/echo/agent"
	rightACL  = "topic readwrite hall/#\n"
)

// quickEcho makes a lost echo known at once.
func quickEcho(c *Client) {
	const quick = 200 * time.Millisecond
	c.times.echoWait, c.times.echoEvery, c.times.echoSoon, c.times.echoAgain = quick, quick, quick, quick
}

// mosquitto confirms what its ACL forbids and throws it away, or, where it may
// queue without a limit, hangs up. No message may go over such a connection. Once
// the ACL is right, all goes on by itself.
func TestEchoForbidden(t *testing.T) {
	const listener = "user listener\ntopic read #\n"
	for name, acl := range map[string]string{
		"publish":   "topic read hall/echo/+\ntopic readwrite hall/visits\ntopic readwrite hall/status\n",
		"subscribe": "topic write hall/echo/+\ntopic readwrite hall/visits\ntopic readwrite hall/status\n",
		"prefix":    "topic readwrite other/#\n",
	} {
		for _, queued := range []string{"1000", "0"} {
			t.Run(name+" queued "+queued, func(t *testing.T) {
				b := mosquitto.Start(t, mosquitto.Options{ACL: acl + listener, Extra: []string{"max_queued_messages " + queued}})
				l := listenWith(t, Options{URL: b.URL, Username: "listener"})
				c, _ := run(t, Options{URL: b.URL, Echo: echoTopic}, quickEcho)
				c.Retain("hall/status", []byte("ready"))
				s := until(t, c, "without an echo", func(s Status) bool { return s.Code != "" && s.Code != CodeLost })
				if s.Code != CodeNotEchoed || !strings.Contains(s.Hint, "topic readwrite "+echoTopic) {
					t.Errorf("status %+v", s)
				}
				if queued != "0" && (s.State != Connected || s.EchoesLost == 0) {
					t.Errorf("status %+v", s)
				}
				short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				if _, err := c.Session(short); err == nil {
					t.Error("messages were let in without an echo")
				}
				if name != "prefix" {
					l.expect("hall/status=ready")
				}
				b.SetACL(rightACL + listener)
				b.Reload()
				began := time.Now()
				if err := publish(t, c, "hall/visits", false, "one"); err != nil {
					t.Fatal(err)
				}
				t.Logf("recovered %v after the reload, with echoes every 400 ms", time.Since(began).Round(time.Millisecond))
				for came := ""; came != "hall/visits=one"; {
					select {
					case came = <-l.came:
					case <-time.After(10 * time.Second):
						t.Fatal("what was published did not come")
					}
				}
				if s := c.Status(); s.Code != "" || s.Echo <= 0 || queued != "0" && s.Connects != 1 {
					t.Errorf("status %+v", s)
				}
			})
		}
	}
}

// Rights that are taken away while connected end the session, not the connection.
func TestRightsTakenAway(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{ACL: rightACL, Extra: []string{"max_queued_messages 1000"}})
	c, _ := run(t, Options{URL: b.URL, Echo: echoTopic}, quickEcho)
	s := connected(t, c)
	b.SetACL("topic readwrite hall/visits\n")
	b.Reload()
	<-s.Done()
	done := make(chan error, 1)
	c.Publish(s, "hall/visits", false, nil, func(err error) { done <- err })
	if err := <-done; err == nil {
		t.Error("published under a session that is over")
	}
	b.SetACL(rightACL)
	b.Reload()
	connected(t, c)
	if s := c.Status(); s.Code != "" || s.Connects != 1 {
		t.Errorf("status %+v", s)
	}
}

// A single echo that is lost keeps messages back and is not taken for missing
// rights: the next one, soon after, may come back.
func TestOneEchoLost(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{ACL: "topic readwrite hall/visits\n", Extra: []string{"max_queued_messages 1000"}})
	var log bytes.Buffer
	c, stop := run(t, Options{URL: b.URL, Echo: echoTopic, Log: slog.New(slog.NewTextHandler(&log, nil))}, quickEcho,
		func(c *Client) { c.times.echoSoon = time.Second })
	s := until(t, c, "without an echo", func(s Status) bool { return s.EchoesLost > 0 })
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Session(short); err == nil || s.Code != "" || s.State != Connected {
		t.Errorf("messages let in: %v; status %+v", err == nil, s)
	}
	b.SetACL(rightACL)
	b.Reload()
	connected(t, c)
	stop()
	if s := c.Status(); s.EchoesLost != 1 || s.Connects != 1 || strings.Contains(log.String(), errNotEchoed.Error()) {
		t.Errorf("status %+v, log:\n%s", s, &log)
	}
}

// A cluster without a leader hangs up on each echo. That is told as missing
// rights only when it goes on for as long as an echo may take.
func TestHungUpBeforeEcho(t *testing.T) {
	stub, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := stub.Accept()
			if err != nil {
				return
			}
			if _, err := readPacket(conn); err == nil { // not a probe
				conn.Write([]byte{0x20, 2, 0, 0})
				if sub, err := readPacket(conn); err == nil {
					conn.Write([]byte{0x90, 3, sub[2], sub[3], 1})
					readPacket(conn) // the echo
				}
			}
			conn.Close()
		}
	})
	t.Cleanup(func() { stub.Close(); serving.Wait() })
	began := time.Now()
	c, _ := run(t, Options{URL: "mqtt://" + stub.Addr().String(), Echo: echoTopic}, func(c *Client) { c.times.echoWait = time.Second })
	s := until(t, c, "without rights", func(s Status) bool { return s.Code == CodeNotEchoed })
	if took := time.Since(began); took < c.times.echoWait || s.Connects < 3 {
		t.Errorf("told after %v and %d connects", took, s.Connects)
	}
	// From then on it is told while connected, too.
	until(t, c, "connected without rights", func(s Status) bool { return s.State == Connected && s.Code == CodeNotEchoed })
}

// What is published ahead overtakes what waits.
func TestPublishAhead(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	l := listen(t, b.URL)
	c, _ := run(t, Options{URL: b.URL})
	s := connected(t, c)
	inner := sessionOf(s)
	b.Pause() // paho takes what the sockets hold, then the queue grows
	for range 200 {
		c.Publish(s, "visits", false, make([]byte, 64<<10), func(error) {})
	}
	c.PublishAhead(s, "lookup", false, nil, func(error) {})
	inner.mu.Lock()
	waiting := len(inner.queue)
	inner.mu.Unlock()
	b.Resume()
	for ahead := 0; ; ahead++ {
		came := <-l.came
		if strings.HasPrefix(came, "visits=") {
			continue
		}
		if came != "lookup=" || ahead > 200-waiting+1 || waiting == 0 {
			t.Errorf("%.20q came after %d of 200, of which %d waited", came, ahead, waiting)
		}
		return
	}
}
