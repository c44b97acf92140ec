package mqtt

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

const benchWindow = 64

// BenchmarkRatioPublish compares the client with bare paho, both with 64
// messages of 1 KiB in flight to a real broker, in turns of one run. ratio is
// the client's median rate over paho's.
func BenchmarkRatioPublish(b *testing.B) {
	b.Run(fmt.Sprintf("1 KiB, %d in flight", benchWindow), benchPublish)
}

func benchPublish(b *testing.B) {
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
	failed := make(chan error, 1) // the first of them
	note := func(err error) {
		if err == nil {
			return
		}
		select {
		case failed <- err:
		default:
		}
	}
	// rate gives the messages per second of what publish counts, all confirmed.
	rate := func(publish func(more func() bool) int) float64 {
		begin := time.Now()
		n := publish(func() bool { return len(failed) == 0 && time.Since(begin) < 200*time.Millisecond })
		took := time.Since(begin)
		if len(failed) > 0 {
			b.Fatal(<-failed)
		}
		return float64(n) / took.Seconds()
	}

	ours := func(more func() bool) (n int) {
		window := make(chan struct{}, benchWindow)
		var all sync.WaitGroup
		defer all.Wait()
		done := func(err error) {
			note(err)
			<-window
			all.Done()
		}
		for ; more(); n++ {
			window <- struct{}{}
			all.Add(1)
			c.Publish(s, "visits", false, payload, done)
		}
		return n
	}
	theirs := func(more func() bool) (n int) {
		tokens := make(chan paho.Token, benchWindow-1) // and the one that is waited for
		var all sync.WaitGroup
		defer all.Wait()
		defer close(tokens)
		all.Go(func() {
			for t := range tokens {
				t.Wait()
				note(t.Error())
			}
		})
		for ; more(); n++ {
			tokens <- bare.Publish("visits", 1, false, payload)
		}
		return n
	}
	var a, z []float64
	for b.Loop() {
		a = append(a, rate(ours))
		z = append(z, rate(theirs))
	}
	slices.Sort(a)
	slices.Sort(z)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(a[len(a)/2], "ours-messages/s")
	b.ReportMetric(z[len(z)/2], "paho-messages/s")
	b.ReportMetric(a[len(a)/2]/z[len(z)/2], "ratio")
	b.ReportMetric(0.95, "aim-min")
}
