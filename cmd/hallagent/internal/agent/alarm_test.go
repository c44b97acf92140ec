package agent

import (
	"testing"
	"time"

	"github.com/hallagent/hallagent/counter/occupancy"
	"github.com/hallagent/hallagent/sync/lan"
	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/uplink"
	"github.com/hallagent/hallagent/sync/wire"
)

func TestAlarms(t *testing.T) {
	start := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	as := newAlarms()
	good := lan.Hall{
		Readers: []lan.Reader{{ID: "rd-05", State: wire.DeviceOnline, Since: start}},
		Streams: []lan.Stream{{Name: visits, Open: true, Dropped: 7}},
	}
	away, closed, lossy := good, good, good
	away.Readers = []lan.Reader{{ID: "rd-05", State: wire.DeviceOffline, Code: "missing", Since: start}}
	closed.Streams = []lan.Stream{{Name: visits, Err: "no space", Dropped: 7}}
	lossy.Streams = []lan.Stream{{Name: visits, Open: true, Dropped: 8}}
	damaged := good
	damaged.Streams = []lan.Stream{{Name: visits, Open: true, Dropped: 8, Damages: []lan.Damage{{At: start, File: "visits.db.damaged-1", Saved: 3, Lost: 1}}}}
	quiet, odd := uplink.Status{}, uplink.Status{Ignored: map[string]uint64{uplink.IgnoredBeyond: 1}}

	device, store := subject{alarmDevice, "rd-05"}, subject{alarmStore, visits}
	harm := subject{alarmDamage, visits}
	loss, ack := subject{alarmLoss, visits}, subject{alarmAck, visits}
	for _, step := range []struct {
		name   string
		after  time.Duration
		hall   lan.Hall
		uplink uplink.Status
		raised []subject
		ended  []subject
	}{
		{"what was lost before the start is history", 0, good, quiet, nil, nil},
		{"a device just gone", 59 * time.Second, away, quiet, nil, nil},
		{"a device gone for a minute", time.Minute, away, quiet, []subject{device}, nil},
		{"and a store", 2 * time.Minute, closed, quiet, []subject{store}, []subject{device}},
		{"all is well again", 3 * time.Minute, good, quiet, nil, []subject{store}},
		{"nothing to say", 4 * time.Minute, good, quiet, nil, nil},
		{"records and acknowledgements", 5 * time.Minute, lossy, odd, []subject{loss, ack}, nil},
		{"still known a while later", 14 * time.Minute, lossy, odd, []subject{loss, ack}, nil},
		{"and then over, but a damaged store lies there", 15 * time.Minute, damaged, odd, []subject{harm}, []subject{loss, ack}},
		{"until it is moved away", 16 * time.Minute, lossy, odd, nil, []subject{harm}},
		{"nothing more", 17 * time.Minute, lossy, odd, nil, nil},
	} {
		got := as.look(start.Add(step.after), step.hall, step.uplink, mqtt.Status{}, nil)
		if len(got) != len(step.raised)+len(step.ended) {
			t.Errorf("%s: %v", step.name, got)
		}
		for _, s := range step.raised {
			if a := got[s]; !a.Active || a.Text == "" || a.Since.IsZero() {
				t.Errorf("%s: %v is %+v", step.name, s, a)
			}
		}
		for _, s := range step.ended {
			if a, ok := got[s]; !ok || a.Active {
				t.Errorf("%s: %v is %+v", step.name, s, a)
			}
		}
	}
}

// TestAlarmsOfDoors raises what the passes show to be wrong, about the door or the
// agent, and what counters say of themselves; each ends when it is over.
func TestAlarmsOfDoors(t *testing.T) {
	as := newAlarms()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	h := lan.Hall{Counters: []lan.Counter{
		{ID: "beam-1", State: wire.DeviceOnline, Code: "blocked", Since: now, Hint: "look"},
		{ID: "ir-2", State: wire.DeviceOnline, Code: "battery", Since: now, Hint: "change"},
		{ID: "new-3", State: wire.DeviceOffline, Since: now.Add(-time.Hour)}, // nobody has dialled in yet
	}}
	found := as.look(now, h, uplink.Status{}, mqtt.Status{}, []occupancy.Finding{{Code: occupancy.DoorSilent, Door: "D1"}, {Code: occupancy.Direction, Door: "D2"}, {Code: occupancy.Imbalance}})
	want := []subject{{"door_silent", "D1"}, {"direction", "D2"}, {"imbalance", "agent"}, {"beam_blocked", "beam-1"}, {"battery_low", "ir-2"}}
	if len(found) != len(want) {
		t.Errorf("%v", found)
	}
	for _, s := range want {
		if a := found[s]; !a.Active || a.Text == "" || a.Hint == "" {
			t.Errorf("%v is %+v", s, a)
		}
	}
	for s, a := range as.look(now.Add(time.Minute), lan.Hall{}, uplink.Status{}, mqtt.Status{}, nil) {
		if a.Active {
			t.Errorf("%v stands still", s)
		}
	}
}
