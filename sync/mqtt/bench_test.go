package mqtt

import (
	"slices"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

const benchWindow = 64

// BenchmarkPublish compares the client with bare paho, both with 64 messages of
// 1 KiB in flight to a real broker, in turns of one run. ratio is the client's
// median rate over paho's.
func BenchmarkPublish(b *testing.B) {
	broker := mosquitto.Start(b, mosquitto.Options{Extra: []string{"max_inflight_messages 0"}})
	c, _ := run(b, Options{URL: broker.URL})
	s := connected(b, c)
	bare := paho.NewClient(paho.NewClientOptions().AddBroker(broker.URL).SetClientID("bare").
		SetProtocolVersion(4).SetAutoReconnect(false).SetWriteTimeout(writeTimeout))
	if t := bare.Connect(); t.Wait() && t.Error() != nil {
		b.Fatal(t.Error())
	}
	defer bare.Disconnect(quiesce)
	payload := make([]byte, 1024)

	ours := func() float64 {
		window := make(chan struct{}, benchWindow)
		var all sync.WaitGroup
		done := func(err error) {
			if err != nil {
				b.Error(err)
			}
			<-window
			all.Done()
		}
		n, begin := 0, time.Now()
		for ; time.Since(begin) < 200*time.Millisecond; n++ {
			window <- struct{}{}
			all.Add(1)
			c.Publish(s, "visits", false, payload, done)
		}
		all.Wait()
		return float64(n) / time.Since(begin).Seconds()
	}
	theirs := func() float64 {
		tokens := make(chan paho.Token, benchWindow-1) // and the one that is waited for
		var all sync.WaitGroup
		all.Go(func() {
			for t := range tokens {
				if t.Wait(); t.Error() != nil {
					b.Error(t.Error())
				}
			}
		})
		n, begin := 0, time.Now()
		for ; time.Since(begin) < 200*time.Millisecond; n++ {
			tokens <- bare.Publish("visits", 1, false, payload)
		}
		close(tokens)
		all.Wait()
		return float64(n) / time.Since(begin).Seconds()
	}
	var a, z []float64
	for b.Loop() {
		a = append(a, ours())
		z = append(z, theirs())
	}
	slices.Sort(a)
	slices.Sort(z)
	b.ReportMetric(a[len(a)/2], "client/s")
	b.ReportMetric(z[len(z)/2], "paho/s")
	b.ReportMetric(a[len(a)/2]/z[len(z)/2], "ratio")
}
