//go:build unix

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/wire"
)

// TestTortureBrokerRights starts the agent at a broker that lets it in and forgot
// its right to its own echo: nothing is sent, the operator is told, and once the
// ACL is right everything arrives by itself.
func TestTortureBrokerRights(t *testing.T) {
	if os.Getenv("HALLAGENT_TORTURE") == "" {
		t.Skip("an echo waits 10 s: in full length only")
	}
	prefix := hall.Prefix()
	topics := "topic readwrite " + prefix + "status\ntopic readwrite " + prefix + "visits\ntopic readwrite " + prefix + "alarm/#\n"
	const ears = "user ears\ntopic readwrite #\n"
	b := mosquitto.Start(t, mosquitto.Options{ACL: topics + ears, Extra: []string{"max_queued_messages 1000"}})
	w := newWorld(t, b.URL)
	gate := w.addCounter("D1", true)
	w.configure("")
	s := subscribe(t, strings.Replace(b.URL, "mqtt://", "mqtt://ears:x@", 1), nil)
	w.start()
	w.ready()
	gate.Pass(3, 1)
	alarm := func(active bool) func() error {
		return func() error {
			var a wire.Alarm
			if _, err := s.last(hall.Alarm("broker_rights", "agent"), &a); err != nil {
				return err
			}
			if a.Active != active || active && !strings.Contains(a.Hint, "topic readwrite "+hall.Echo("agent")) {
				return fmt.Errorf("the alarm is %+v", a)
			}
			return nil
		}
	}
	eventually(t, 30*time.Second, "the alarm is raised", alarm(true))
	h, err := w.hallView()
	if err != nil {
		t.Fatal(err)
	}
	if v := ofBroker(h); v.state != "connected" || v.code != "not_echoed" || v.hint == "" {
		t.Errorf("/v1/hall says %+v", v)
	}
	eventually(t, 10*time.Second, "the pass waits on disk", func() error {
		h, err := w.hallView()
		if err == nil && h.Streams[0].Pending == 0 {
			err = fmt.Errorf("nothing is pending")
		}
		return err
	})
	if n := len(s.all(hall.Stream("visits"))); n > 0 {
		t.Errorf("%d records were sent", n)
	}
	b.SetACL("topic readwrite " + prefix + "#\n" + ears)
	b.Reload()
	began := time.Now()
	eventually(t, 31*time.Second, "the pass arrives", func() error {
		if len(s.all(hall.Stream("visits"))) == 0 {
			return fmt.Errorf("no visit came")
		}
		return nil
	})
	t.Logf("recovered %v after the ACL was right", time.Since(began).Round(time.Millisecond))
	eventually(t, 5*time.Second, "the alarm is over", alarm(false))
}
