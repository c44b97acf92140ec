package deploy_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/hallagent/hallagent/sync/mqtt/nats"
)

// The server dies that leads the stream of retained messages: status, occupancy
// and acknowledgement are still there, for whoever comes to another one, and so is the
// session of a consumer that keeps one. The will of an agent that dies then is
// published.
func TestNATSServerLost(t *testing.T) {
	t.Parallel() // it mostly waits for the cluster to elect
	s, c := natsSite(t)
	hall, queue := s.connect(t, hallA, "hall"), s.connect(t, "queue", "queue")
	for name, payload := range map[string]string{"status": "ready", "occupancy": "17"} {
		hall.publish("hall/v1/"+hallA+"/"+name, payload, true)
	}
	queue.publish("hall/v1/"+hallA+"/ack/visits", "41", true)
	dead := c.Leader(nats.Retained)
	kept := func(o *paho.ClientOptions) { o.SetCleanSession(false) }
	there := s
	there.services = dead.URL
	there.connect(t, "queue", "kept", kept).subscribeUntil("hall/v1/+/+/visits")
	dead.Kill()
	s.halls = c.Other().URL
	s.services = c.Other(c.Other()).URL

	late := s.connect(t, "queue", "late")
	late.retained("hall/v1/+/+/status", "hall/v1/"+hallA+"/status", "ready")
	late.retained("hall/v1/+/+/occupancy", "hall/v1/"+hallA+"/occupancy", "17")

	// What comes while a kept session's client is away waits for it elsewhere.
	visits := s.connect(t, hallA, "visits")
	for i := range 20 {
		visits.publish("hall/v1/"+hallA+"/visits", fmt.Sprint(i), false)
	}
	moved := s.connect(t, "queue", "kept", kept)
	for i := range 20 {
		moved.wait("hall/v1/"+hallA+"/visits", fmt.Sprint(i))
	}

	var conn net.Conn
	again := s.connect(t, hallA, "again", func(o *paho.ClientOptions) {
		o.SetWill("hall/v1/"+hallA+"/status", "lost", 1, true)
		o.SetCustomOpenConnectionFn(dialer(&conn))
	})
	again.retained("hall/v1/"+hallA+"/ack/+", "hall/v1/"+hallA+"/ack/visits", "41")
	conn.Close()
	if !late.came("hall/v1/"+hallA+"/status", "lost", 3*patience) {
		t.Error("the will did not come")
	}
	s.connect(t, "queue", "newest").retained("hall/v1/+/+/status", "hall/v1/"+hallA+"/status", "lost")
}

// subscribeUntil asks again while the gateway refuses: it does so with what a user
// may have, too, until the streams have leaders again.
func (c *client) subscribeUntil(filter string) {
	c.t.Helper()
	for deadline := time.Now().Add(6 * patience); c.subscribe(filter)[filter] != 1; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("subscribe %s: refused", filter)
		}
	}
}

// retained subscribes until a retained message comes. The gateway grants a
// subscription even if it cannot read what is retained just then.
func (c *client) retained(filter, topic, payload string) {
	c.t.Helper()
	for deadline := time.Now().Add(6 * patience); ; {
		if c.subscribeUntil(filter); c.came(topic, payload, 2*time.Second) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s is not retained: %s", topic, payload)
		}
	}
}
