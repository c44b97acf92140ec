package agent

import (
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/lan"
	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/uplink"
)

// Each trouble of the way up raises its alarm, and ends it.
func TestAlarmsOfTheWayUp(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for _, c := range []struct {
		name     string
		uplink   uplink.Status
		mqtt     mqtt.Status
		want     subject
		severity string
	}{
		{"stalled", uplink.Status{Stalled: now.Add(-time.Minute)}, mqtt.Status{}, subject{alarmStalled, visits}, "warning"},
		{"no rights", uplink.Status{}, mqtt.Status{Code: mqtt.CodeNotEchoed, Hint: "x"}, subject{alarmRights, "agent"}, "critical"},
		{"no subscription", uplink.Status{}, mqtt.Status{Code: mqtt.CodeSubscription, Hint: "x"}, subject{alarmRights, "agent"}, "critical"},
		{"two of them", uplink.Status{}, mqtt.Status{Code: mqtt.CodeDuplicate, Hint: "x"}, subject{alarmDuplicate, "agent"}, "critical"},
		{"own certificate soon", uplink.Status{}, mqtt.Status{OwnExpires: now.Add(14 * day)}, subject{alarmCertificate, "agent"}, "warning"},
		{"own certificate expired", uplink.Status{}, mqtt.Status{OwnExpires: now}, subject{alarmCertificate, "agent"}, "critical"},
		{"broker's certificate soon", uplink.Status{}, mqtt.Status{BrokerExpires: now.Add(day)}, subject{alarmCertificate, "broker"}, "warning"},
	} {
		as := newAlarms()
		found := as.look(now, lan.Hall{}, c.uplink, c.mqtt, nil)
		if a := found[c.want]; len(found) != 1 || !a.Active || a.Severity != c.severity || a.Text == "" || a.Hint == "" {
			t.Errorf("%s: %+v", c.name, found)
		}
		good := mqtt.Status{OwnExpires: now.Add(14*day + time.Hour), BrokerExpires: now.Add(365 * day)}
		if a, ok := as.look(now.Add(time.Minute), lan.Hall{}, uplink.Status{}, good, nil)[c.want]; !ok || a.Active {
			t.Errorf("%s is not over: %+v", c.name, a)
		}
	}
}
