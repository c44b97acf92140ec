package agent

import (
	"golang.org/x/sys/unix"

	"github.com/hallagent/hallagent/sync/wire"
)

// discipline asks the kernel whether something keeps its clock right. What
// cannot be known counts as unsynced: better doubted than believed.
func discipline() wire.Clock {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil || state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		return wire.Unsynced
	}
	return wire.Synced
}
