package deploy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// BenchmarkRatioBrokers measures how many messages a second come from a hall to
// the queue service, QoS 1, 64 in flight, as both brokers are shipped: with TLS,
// and on NATS on three servers of this one machine. ratio is NATS over mosquitto.
func BenchmarkRatioBrokers(b *testing.B) {
	b.Run("NATS to mosquitto, 1000 messages of 600 bytes", func(b *testing.B) {
		m, _ := mosquittoSite(b)
		n, _ := natsSite(b)
		overMosquitto, overNATS := newPath(b, m), newPath(b, n)
		var one, other []float64
		for b.Loop() {
			one = append(one, overNATS.rate(1000))
			other = append(other, overMosquitto.rate(1000))
		}
		slices.Sort(one)
		slices.Sort(other)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(one[len(one)/2], "ours-messages/s")
		b.ReportMetric(other[len(other)/2], "mosquitto-messages/s")
		b.ReportMetric(one[len(one)/2]/other[len(other)/2], "ratio")
	})
}

// path is a hall and the service at its other end.
type path struct {
	hall, queue *client
	came        chan struct{}
}

func newPath(b *testing.B, s site) *path {
	p := &path{hall: s.connect(b, hallA, "hall"), came: make(chan struct{}, 1<<16)}
	p.queue = s.connect(b, "queue", "queue", func(o *paho.ClientOptions) {
		o.SetDefaultPublishHandler(func(paho.Client, paho.Message) { p.came <- struct{}{} })
	})
	p.queue.subscribe("hall/v1/+/+/visits")
	return p
}

// rate sends n messages and gives how many a second arrived.
func (p *path) rate(n int) float64 {
	payload := strings.Repeat("x", 600)
	began := time.Now()
	var pending []paho.Token
	for range n {
		if len(pending) == 64 {
			pending[0].Wait()
			pending = pending[1:]
		}
		pending = append(pending, p.hall.Publish("hall/v1/"+hallA+"/visits", 1, false, payload))
	}
	for range n {
		select {
		case <-p.came:
		case <-time.After(3 * patience):
			p.hall.t.Fatal("not all messages came")
		}
	}
	return float64(n) / time.Since(began).Seconds()
}
