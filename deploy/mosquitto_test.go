package deploy_test

import (
	"fmt"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// Retained messages outlive a restart in good order.
func TestMosquittoRestart(t *testing.T) {
	s, b := mosquittoSite(t)
	hall, queue := s.connect(t, hallA, "hall"), s.connect(t, "queue", "queue")
	retained := map[string]string{"status": "ready", "occupancy": "17", "alarm/code/d": "on"}
	for name, payload := range retained {
		hall.publish("hall/v1/"+hallA+"/"+name, payload, true)
	}
	queue.publish("hall/v1/"+hallA+"/ack/visits", "41", true)
	hall.Disconnect(100) // in good order, so no will
	b.Restart()
	late := s.connect(t, "queue", "queue")
	late.subscribe("hall/v1/+/+/status", "hall/v1/+/+/occupancy", "hall/v1/+/+/alarm/+/+")
	for name, payload := range retained {
		late.wait("hall/v1/"+hallA+"/"+name, payload)
	}
	again := s.connect(t, hallA, "hall")
	again.subscribe("hall/v1/" + hallA + "/ack/+")
	again.wait("hall/v1/"+hallA+"/ack/visits", "41")
}

// A consumer that keeps its session and is away finds what the limit allows, the
// oldest, and nothing of what came when that was reached. So where the broker's
// word ends a record (acknowledge: broker) an absence may be too long. With
// acknowledge: central nothing is lost: the hall keeps what the consumer has not
// acknowledged, and the consumer asks for what it misses.
func TestMosquittoQueueLimit(t *testing.T) {
	const inFlight, queued, extra = 64, 10000, 500 // as in mosquitto.conf
	s, _ := mosquittoSite(t)
	topic := "hall/v1/" + hallA + "/visits"
	kept := func(o *paho.ClientOptions) { o.SetCleanSession(false) }
	away := s.connect(t, "queue", "kept", kept)
	away.subscribe("hall/v1/+/+/visits")
	away.Disconnect(100)

	hall := s.connect(t, hallA, "hall")
	var tokens []paho.Token
	for i := range inFlight + queued + extra {
		tokens = append(tokens, hall.Publish(topic, 1, false, fmt.Sprint(i)))
	}
	for _, token := range tokens { // confirmed, all of them
		if !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	back := s.connect(t, "queue", "kept", kept)
	back.wait(topic, fmt.Sprint(queued-1))
	hall.publish(topic, "end", false)
	back.wait(topic, "end")
	back.mu.Lock()
	defer back.mu.Unlock()
	if n := len(back.got[topic]) - 1; n < queued || n > inFlight+queued {
		t.Errorf("%d messages were kept, want %d to %d", n, queued, inFlight+queued)
	}
	for i, payload := range back.got[topic] {
		if payload != fmt.Sprint(i) && payload != "end" {
			t.Fatalf("message %d is %s: not the oldest, in order", i, payload)
		}
	}
}
