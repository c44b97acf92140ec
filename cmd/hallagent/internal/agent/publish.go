package agent

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/counter/occupancy"
	"github.com/hallagent/hallagent/sync/lan"
	"github.com/hallagent/hallagent/sync/wire"
)

// look is how often snapshots are compared with what was last told.
const look = 400 * time.Millisecond

// told is what the broker and the streams were last told.
type told struct {
	at        time.Time // of the last full renewal
	status    wire.Status
	devices   map[string]wire.Device
	readers   map[string]lan.Reader
	occupancy wire.Occupancy
	alarms    *alarms
	standing  map[subject]wire.Alarm
}

// tell keeps the states up to date at the broker and on the LAN: at once when
// the estimate moves, within a look when anything else changes, and all of them
// once per renewal, because a state expires.
func (a *Agent) tell(ctx context.Context) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	last := told{devices: map[string]wire.Device{}, readers: map[string]lan.Reader{}, alarms: newAlarms()}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-a.passes.changed:
		}
		a.tellOnce(&last, time.Now())
	}
}

func (a *Agent) tellOnce(last *told, now time.Time) {
	renew := now.Sub(last.at) >= wire.StateRenewal
	if renew {
		last.at = now
	}
	estimate := a.estimate()
	if o := wire.NewOccupancy(estimate); renew || !reflect.DeepEqual(withoutAges(o), withoutAges(last.occupancy)) {
		last.occupancy = o
		a.retain(a.hall.Occupancy(), "agent", wire.TypeOccupancy, o)
		a.lan.ShowOccupancy(o)
	}
	h := a.view()
	for _, r := range h.Readers {
		d := wire.Device{State: r.State, Since: r.Since, Code: r.Code, Kind: r.Kind, Window: r.Window}
		a.tellDevice(last, renew, r.ID, d)
		before := last.readers[r.ID]
		if before.State != r.State || before.Code != r.Code || before.SAMID != r.SAMID {
			a.lan.ShowReader(r)
		}
		last.readers[r.ID] = r
	}
	for _, c := range h.Counters {
		a.tellDevice(last, renew, c.ID, wire.Device{State: c.State, Since: c.Since, Code: c.Code, Kind: c.Kind, Door: c.Door})
	}
	a.tellAlarms(last, renew, now, h, estimate.Findings)
	if s := a.status(h); renew || s.State != last.status.State || !slices.Equal(s.Reasons, last.status.Reasons) {
		last.status = s
		a.retain(a.hall.Status(), "agent", wire.TypeStatus, s)
	}
}

func (a *Agent) tellDevice(last *told, renew bool, id string, d wire.Device) {
	before, ok := last.devices[id]
	if !ok && d.State == wire.DeviceOffline && d.Code == "" {
		return // not tried yet: it may be online in a moment
	}
	if renew || !ok || before.State != d.State || before.Code != d.Code {
		last.devices[id] = d
		a.retain(a.hall.Device(id), id, wire.TypeDevice, d)
	}
}

func (a *Agent) tellAlarms(last *told, renew bool, now time.Time, h lan.Hall, findings []occupancy.Finding) {
	found := last.alarms.look(now, h, a.uplink.Status(), a.mqtt.Status(), findings)
	for s, alarm := range found {
		if before, ok := last.standing[s]; renew || !ok || before != alarm {
			a.kept.add(a.hall.Alarm(s.code, s.about))
			a.retain(a.hall.Alarm(s.code, s.about), "agent", wire.TypeAlarm, alarm)
			if !ok || before.Active != alarm.Active {
				a.log.Warn("alarm", "code", s.code, "device", s.about, "active", alarm.Active, "err", alarm.Text)
			}
		}
	}
	last.standing = found
}

// withoutAges leaves out what changes with every reading.
func withoutAges(o wire.Occupancy) wire.Occupancy {
	o.Doors = slices.Clone(o.Doors)
	for i := range o.Doors {
		o.Doors[i].Last = nil
	}
	return o
}

// estimate is the estimate now.
func (a *Agent) estimate() occupancy.Snapshot {
	return a.passes.snapshot(time.Now(), a.counters())
}

func (a *Agent) occupancy() wire.Occupancy { return wire.NewOccupancy(a.estimate()) }

// day is the curve of a day, the current one for "".
func (a *Agent) day(date string) (wire.Day, bool) {
	d, ok := a.passes.day(date, time.Now())
	return wire.NewDay(d), ok
}

// correct takes a head count by a manager.
func (a *Agent) correct(ctx context.Context, by string, people int, reason string) (wire.Correction, error) {
	return a.passes.correct(ctx, by, people, reason, a.estimate)
}

// counters are the snapshots of all counters.
func (a *Agent) counters() (all []counter.Status) {
	for _, o := range a.owners {
		all = append(all, o.Status()...)
	}
	return all
}

// status is the agent's state, told on the newest connection.
func (a *Agent) status(h lan.Hall) wire.Status {
	s := wire.Status{
		State: h.State, Session: *a.session.Load(), Since: a.since, Version: a.version,
		Streams: map[string]wire.StreamState{},
	}
	s.Reasons = slices.DeleteFunc(slices.Clone(h.Reasons), func(r string) bool {
		return strings.HasPrefix(r, "broker/") // whoever reads this knows better
	})
	if s.State == wire.Degraded && len(s.Reasons) == 0 {
		s.State = wire.Ready
	}
	for _, st := range h.Streams {
		s.Streams[st.Name] = wire.StreamState{Epoch: st.Epoch, Last: st.Last, Pending: st.Pending}
	}
	return s
}

func (a *Agent) retain(topic, about, typ string, data any) {
	payload, err := wire.State(a.hall, topic, about, typ, *a.session.Load(), time.Now(), data)
	if err != nil {
		a.log.Error("cannot encode a state", "topic", topic, "err", err)
		return
	}
	a.mqtt.Retain(topic, payload)
}

// devices are the ids of all readers and counters.
func (a *Agent) devices() (ids []string) {
	for _, r := range a.cfg.Readers {
		ids = append(ids, r.ID)
	}
	for _, c := range a.cfg.Counters {
		ids = append(ids, c.ID)
	}
	return ids
}
