//go:build unix

package mqtt

import (
	"context"
	"strings"
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
	c.times.echoWait, c.times.echoEvery, c.times.echoAgain = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
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
				s := until(t, c, "without an echo", func(s Status) bool { return s.Code != "" })
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
