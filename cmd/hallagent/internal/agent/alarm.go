package agent

import (
	"fmt"
	"time"

	"github.com/hallagent/hallagent/counter/occupancy"
	"github.com/hallagent/hallagent/sync/lan"
	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/uplink"
	"github.com/hallagent/hallagent/sync/wire"
)

const (
	openGrace = 5 * time.Second  // a store may take so long to open at the start
	downAfter = time.Minute      // a device that is away for so long is an alarm
	eventLife = 10 * time.Minute // an alarm about something that happened stands so long after it happened last
)

// Codes of alarms, part of their topics. Those about what the passes show are the
// codes of occupancy.Finding, about the door or the agent.
const (
	alarmDevice  = "device_down"    // about the device
	alarmBlocked = "beam_blocked"   // about the counter
	alarmBattery = "battery_low"    // about the counter
	alarmStore   = "store_unusable" // about the stream
	alarmLoss    = "records_lost"   // about the stream
	alarmAck     = "ack_ignored"    // about the stream
	alarmNew     = "store_replaced" // about the stream
	alarmDamage  = "store_damaged"  // about the stream
)

// findingTexts say in words what the passes show to be wrong, and what to do.
var findingTexts = map[occupancy.Code]struct{ text, hint string }{
	occupancy.DoorSilent: {"nobody is counted where people usually pass", "walk through it: if the counter does not move, look at its beam, power and wiring"},
	occupancy.Direction:  {"in and out are mixed up", "walk in and see which total moves; then set swap on its counter the other way round"},
	occupancy.Imbalance:  {"more people come in by the counted doors than leave by them, or the reverse", "look for a way that is not counted, such as a staff door, or for a counter that misses one direction; a head count corrects the number for today"},
}

// subject is what one alarm is about: the last two levels of its topic.
type subject struct{ code, about string }

// alarms finds what deserves one. What is a state is judged by the snapshot;
// what is an event is judged by counters that grew.
type alarms struct {
	stand   map[subject]wire.Alarm
	events  map[subject]time.Time // when a counter grew last
	counted map[subject]uint64
}

func newAlarms() *alarms {
	return &alarms{stand: map[subject]wire.Alarm{}, events: map[subject]time.Time{}, counted: map[subject]uint64{}}
}

// look gives the alarms that stand, and those that have just ended as not
// active.
func (as *alarms) look(now time.Time, h lan.Hall, u uplink.Status, m mqtt.Status, findings []occupancy.Finding) map[subject]wire.Alarm {
	found := map[subject]wire.Alarm{}
	raise := func(code, about, severity, text, hint string) {
		found[subject{code, about}] = wire.Alarm{Active: true, Severity: severity, Text: text, Hint: hint}
	}
	down := func(id string, state wire.DeviceState, since time.Time, code, hint string) {
		if state != wire.DeviceOnline && code != "" && now.Sub(since) >= downAfter {
			raise(alarmDevice, id, "warning", fmt.Sprintf("%s is %s: %s", id, state, code), hint)
		}
	}
	for _, r := range h.Readers {
		down(r.ID, r.State, r.Since, r.Code, r.Hint)
	}
	for _, c := range h.Counters {
		down(c.ID, c.State, c.Since, c.Code, c.Hint)
		switch c.Code {
		case "blocked":
			raise(alarmBlocked, c.ID, "warning", "the beam of "+c.ID+" is blocked", c.Hint)
		case "battery":
			raise(alarmBattery, c.ID, "warning", "the battery of "+c.ID+" is nearly empty", c.Hint)
		}
	}
	for _, f := range findings {
		about, where := f.Door, "door "+f.Door
		if f.Door == "" {
			about, where = "agent", "the hall"
		}
		says := findingTexts[f.Code]
		raise(string(f.Code), about, "warning", where+": "+says.text, says.hint)
	}
	for _, s := range h.Streams {
		if !s.Open && now.Sub(h.Since) >= openGrace {
			raise(alarmStore, s.Name, "critical", "the store of "+s.Name+" takes no records: "+s.Err, s.Hint)
		}
		if s.Replaced {
			raise(alarmNew, s.Name, "critical", "the store of "+s.Name+" was not there and was begun anew: records that waited in it are lost",
				"find out who moved or emptied the file; the alarm ends with the next start")
		}
		if s.Restored {
			raise(alarmNew, s.Name, "critical", "the store of "+s.Name+" was put back from an older copy: what it got between is lost or was sent twice under one number",
				"never put back a copy of the data folder; the alarm ends with the next start")
		}
		if n := len(s.Damages); n > 0 {
			d := s.Damages[n-1]
			text := fmt.Sprintf("the store of %s was damaged on %s: %d records were saved, %d are lost", s.Name, d.At.Format(time.DateOnly), d.Saved, d.Lost)
			if d.Open {
				text += ", and perhaps more"
			}
			if !d.Marks {
				text += "; counters and the number of people begin anew"
			}
			raise(alarmDamage, s.Name, "critical", text,
				"check the disk; the alarm ends when "+d.File+" is moved away, a report lies beside it")
		}
		if as.grew(now, subject{alarmLoss, s.Name}, s.Dropped) {
			raise(alarmLoss, s.Name, "critical", fmt.Sprintf("%d records of %s were lost so far", s.Dropped, s.Name),
				"the backlog outgrew visits.max_size or the disk is damaged; a gap record tells which")
		}
		ignored := u.Ignored[uplink.IgnoredEpoch] + u.Ignored[uplink.IgnoredLower] + u.Ignored[uplink.IgnoredBeyond] +
			u.Ignored[uplink.IgnoredMalformed]
		if as.grew(now, subject{alarmAck, s.Name}, ignored) {
			raise(alarmAck, s.Name, "warning", fmt.Sprintf("%d acknowledgements of %s could not be meant", ignored, s.Name),
				"a second consumer acknowledges, or the consumer's memory was put back")
		}
	}
	wayUpAlarms(now, u, m, raise)
	for s, a := range found {
		if before, stands := as.stand[s]; stands {
			a.Since = before.Since
		} else {
			a.Since = now
		}
		found[s], as.stand[s] = a, a
	}
	for s, before := range as.stand {
		if _, stands := found[s]; !stands {
			found[s] = wire.Alarm{Severity: before.Severity, Since: now, Text: "over: " + before.Text}
			delete(as.stand, s)
		}
	}
	return found
}

// grew says that a counter grew within eventLife. What it showed at first is
// history.
func (as *alarms) grew(now time.Time, s subject, n uint64) bool {
	if before, known := as.counted[s]; known && n > before {
		as.events[s] = now
	}
	as.counted[s] = n
	at, ok := as.events[s]
	return ok && now.Sub(at) < eventLife
}
