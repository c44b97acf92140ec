package deploy_test

import (
	"net"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/hallagent/hallagent/sync/mqtt/nats"
)

// The server dies that leads the stream of retained messages: status, occupancy
// and acknowledgement are still there, for whoever comes to another one. So is the
// will of an agent that dies then.
func TestNATSRetainedOutlivesServer(t *testing.T) {
	t.Parallel() // it mostly waits for the cluster to elect
	s, c := natsSite(t)
	hall, queue := s.connect(t, hallA, "hall"), s.connect(t, "queue", "queue")
	for name, payload := range map[string]string{"status": "ready", "occupancy": "17"} {
		hall.publish("hall/v1/"+hallA+"/"+name, payload, true)
	}
	queue.publish("hall/v1/"+hallA+"/ack/visits", "41", true)
	c.Leader(nats.Retained).Kill()
	s.halls = c.Other().URL
	s.services = c.Other(c.Other()).URL

	late := s.connect(t, "queue", "late")
	late.subscribeUntil("hall/v1/+/+/status", "hall/v1/+/+/occupancy")
	late.wait("hall/v1/"+hallA+"/status", "ready")
	late.wait("hall/v1/"+hallA+"/occupancy", "17")

	var conn net.Conn
	again := s.connect(t, hallA, "again", func(o *paho.ClientOptions) {
		o.SetWill("hall/v1/"+hallA+"/status", "lost", 1, true)
		o.SetCustomOpenConnectionFn(dialer(&conn))
	})
	again.subscribeUntil("hall/v1/" + hallA + "/ack/+")
	again.wait("hall/v1/"+hallA+"/ack/visits", "41")
	conn.Close()
	late.wait("hall/v1/"+hallA+"/status", "lost")
	newest := s.connect(t, "queue", "newest")
	newest.subscribeUntil("hall/v1/+/+/status")
	newest.wait("hall/v1/"+hallA+"/status", "lost")
}

// subscribeUntil asks again while the gateway refuses: it does so with what a user
// may have, too, until the streams have leaders again.
func (c *client) subscribeUntil(filters ...string) {
	c.t.Helper()
	for deadline := time.Now().Add(3 * patience); ; time.Sleep(100 * time.Millisecond) {
		granted := 0
		for _, code := range c.subscribe(filters...) {
			if code == 1 {
				granted++
			}
		}
		if granted == len(filters) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("subscribe %v: refused", filters)
		}
	}
}
