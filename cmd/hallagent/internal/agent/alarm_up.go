package agent

import (
	"fmt"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/uplink"
)

// Codes of alarms about the way up to the centre.
const (
	alarmStalled     = "uplink_stalled"       // about the stream
	alarmRights      = "broker_rights"        // about the agent
	alarmDuplicate   = "duplicate_client"     // about the agent
	alarmCertificate = "certificate_expiring" // about the agent, or the broker
)

const renewBefore = 14 * 24 * time.Hour // a certificate should be renewed so long before its end

// wayUpAlarms raises what is wrong between the stream and its consumer. That the
// broker is away is no alarm: nobody could hear it.
func wayUpAlarms(now time.Time, u uplink.Status, m mqtt.Status, raise func(code, about, severity, text, hint string)) {
	if !u.Stalled.IsZero() {
		raise(alarmStalled, visits, "warning", "records of visits wait and nothing is acknowledged since "+u.Stalled.Format(time.RFC3339),
			"with acknowledge: central see whether the queue service runs and acknowledges; with acknowledge: broker look at the broker's log, disk and load")
	}
	switch m.Code {
	case mqtt.CodeNotEchoed, mqtt.CodeSubscription:
		raise(alarmRights, "agent", "critical", "the broker does not give this hall its rights: "+m.Err, m.Hint)
	case mqtt.CodeDuplicate:
		raise(alarmDuplicate, "agent", "critical", "another client uses this hall's client id", m.Hint)
	}
	certificate := func(about, text string, expires time.Time, hint string) {
		switch left := expires.Sub(now); {
		case expires.IsZero() || left > renewBefore:
		case left > 0:
			raise(alarmCertificate, about, "warning", fmt.Sprintf("%s expires on %s", text, expires.Format(time.DateOnly)), hint)
		default:
			raise(alarmCertificate, about, "critical", fmt.Sprintf("%s expired on %s", text, expires.Format(time.DateOnly)), hint)
		}
	}
	certificate("agent", "the gateway's certificate", m.OwnExpires, "put a new one and its key into broker.cert_file and broker.key_file; no restart is needed")
	certificate("broker", "the broker's certificate", m.BrokerExpires, "its operator must renew it")
}
