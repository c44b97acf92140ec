package agent

import (
	"cmp"
	"slices"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/idcard"
	"github.com/hallagent/hallagent/sync/lan"
	"github.com/hallagent/hallagent/sync/outbox"
	"github.com/hallagent/hallagent/sync/wire"
)

// view puts the snapshots of all parts together: what the pages show, what the
// broker is told and what metrics are made of.
func (a *Agent) view() lan.Hall {
	now := time.Now()
	local := now.In(a.cfg.Hall.Timezone.Location)
	h := lan.Hall{
		Area: a.cfg.Hall.Area, ID: a.cfg.Hall.ID, Name: a.cfg.Hall.Name, Capacity: a.cfg.Hall.Capacity, Levels: a.cfg.Occupancy.Levels,
		Open: a.cfg.Hall.Hours.IsOpen(local), Hours: a.cfg.Hall.Hours.On(local),
		Now: now, Clock: a.clock.state(), Version: a.version, Since: a.since,
		State: wire.Ready, Reasons: []string{},
		Lines: []lan.Line{}, Readers: []lan.Reader{}, Counters: []lan.Counter{},
		Addresses: a.lan.Listeners(),
	}
	for _, l := range a.lines {
		h.Lines = append(h.Lines, lan.Line{ID: l.id, URL: l.url, Status: l.link.Status()})
	}
	for _, r := range a.readers {
		h.Readers = append(h.Readers, readerView(r.line, r.reader.Status(), r.link.Status()))
	}
	for _, o := range a.owners {
		for _, s := range o.Status() {
			h.Counters = append(h.Counters, counterView(o.line, s, o.link.Status()))
		}
		for _, unit := range o.Strangers() {
			h.Strangers = append(h.Strangers, lan.Stranger{Line: o.line, Unit: unit})
		}
	}
	slices.SortFunc(h.Counters, func(x, y lan.Counter) int { return cmp.Compare(x.ID, y.ID) })
	m := a.mqtt.Status()
	h.Broker = lan.Broker{
		URL: a.cfg.Broker.URL, State: string(m.State), Since: m.Since, Code: m.Code, Err: m.Err, Hint: m.Hint,
		EchoMS: float64(m.Echo.Microseconds()) / 1000, OwnExpires: m.OwnExpires, BrokerExpires: m.BrokerExpires,
	}
	s := a.visits.Status()
	stream := lan.Stream{Name: visits, Open: s.Open, Code: s.Code, Err: s.Err, Hint: s.Hint, Epoch: s.Epoch, Last: s.Last, Pending: s.Pending}
	u := a.uplink.Status()
	stream.InFlight, stream.Replayed, stream.Rate, stream.ETA, stream.Stalled = u.InFlight, u.Replayed, u.Rate, u.ETA.Seconds(), u.Stalled
	stream.Replaced, stream.Restored = s.Begun == outbox.Replaced, s.Begun == outbox.Restored
	for _, d := range s.Damages {
		stream.Damages = append(stream.Damages, lan.Damage{At: d.At, File: d.File, Saved: d.Saved, Lost: d.Lost, Open: d.Open, Marks: d.Marks})
	}
	for _, n := range s.Dropped {
		stream.Dropped += n
	}
	h.Streams = []lan.Stream{stream}

	for _, r := range h.Readers {
		if r.Code != "" { // a device that was never tried yet has none
			h.Reasons = append(h.Reasons, "device/"+r.ID+"/"+r.Code)
		}
	}
	for _, c := range h.Counters {
		if c.Code != "" {
			h.Reasons = append(h.Reasons, "device/"+c.ID+"/"+c.Code)
		}
	}
	if !s.Open {
		h.Reasons = append(h.Reasons, "store/"+visits+"/"+s.Code)
	}
	if _, err := a.boot.number(); err != nil && s.Open {
		h.Reasons = append(h.Reasons, "boot/io") // without an open store, that says enough
	}
	if h.Broker.State != "connected" || h.Broker.Code != "" {
		h.Reasons = append(h.Reasons, "broker/"+h.Broker.Code)
	}
	if len(h.Reasons) > 0 {
		h.State = wire.Degraded
	}
	return h
}

// deviceState tells a user of a device what its own state and that of its line
// come to: a line that is not open is a device that is not there.
func deviceState(own, line device.State) wire.DeviceState {
	switch {
	case line == device.Wedged || own == device.Wedged:
		return wire.DeviceWedged
	case line == device.Online && own == device.Online:
		return wire.DeviceOnline
	}
	return wire.DeviceOffline
}

func readerView(line string, s idcard.Status, l device.Status) lan.Reader {
	v := lan.Reader{
		ID: s.ID, Kind: s.Kind, Line: line, Window: s.Window, SAMID: s.SAMID, Baud: s.Baud, Scans: s.Scans,
		State: deviceState(s.State, l.State), Since: s.Since, Code: s.Code, Err: s.Err,
	}
	if l.State != device.Online {
		v.Since, v.Code, v.Err, v.Hint = l.Since, l.Code, l.Err, l.Hint
	}
	return v
}

func counterView(line string, s counter.Status, l device.Status) lan.Counter {
	v := lan.Counter{
		ID: s.ID, Kind: s.Kind, Line: line, Door: s.Door,
		State: deviceState(s.State, l.State), Since: s.Since, Code: s.Code, Err: s.Err, Hint: s.Hint,
	}
	if l.State != device.Online || s.Code == "line" { // what is wrong with a line, its link knows best
		v.Since, v.Code, v.Err, v.Hint = l.Since, l.Code, l.Err, l.Hint
	}
	if !s.LastReading.IsZero() {
		v.Last = &s.LastReading
	}
	return v
}

// notReady says why the agent cannot do its work yet; a device or a broker that
// is away is no reason, since it works without them.
func (a *Agent) notReady() []string {
	if s := a.visits.Status(); !s.Open {
		return []string{"store " + visits + " is not open: " + s.Err}
	}
	return nil
}

// window gives how the reader of a window is.
func (a *Agent) window(w string) (lan.Reader, bool) {
	r, ok := a.readerAt(w)
	if !ok {
		return lan.Reader{}, false
	}
	return readerView(r.line, r.reader.Status(), r.link.Status()), true
}

// reread has the card that lies at a window read once more.
func (a *Agent) reread(w string) bool {
	r, ok := a.readerAt(w)
	return ok && r.reader.Reread()
}

func (a *Agent) readerAt(w string) (readerOnLine, bool) {
	for _, r := range a.readers {
		if r.window == w {
			return r, true
		}
	}
	return readerOnLine{}, false
}
