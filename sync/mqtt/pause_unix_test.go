//go:build unix

package mqtt

import (
	"sync"
	"testing"

	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

// A broker that stands still takes nothing more at some point: the connection is
// given up, whoever publishes is not held up, and all are told.
func TestBrokerStandsStill(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	c, _ := run(t, Options{URL: b.URL})
	s := connected(t, c)
	b.Pause()
	defer b.Resume()
	var told sync.WaitGroup
	for range mostWaiting / 2 { // 32 MiB, more than any socket buffer here
		told.Add(1)
		c.Publish(s, "visits", false, make([]byte, 64<<10), func(err error) {
			if err == nil {
				t.Error("confirmed by a broker that stands still")
			}
			told.Done()
		})
	}
	<-s.Done()
	told.Wait()
	b.Resume()
	if err := publish(t, c, "visits", false, "again"); err != nil {
		t.Error(err)
	}
}
