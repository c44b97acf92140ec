package counter

import (
	"fmt"
	"time"
)

const (
	oldest    = 7 * 24 * time.Hour // figures that a device has kept
	unsetOnce = time.Minute        // how long a stamp of a clock that is not set excludes another
)

// place says when the figures of a device with a clock of its own were counted,
// and under which name they are remembered. A clock stands at its factory's time
// after a power failure until it is told the time, so it is believed only if it
// is at most a period off, or a week late where the device says that it has kept
// the figures. What an unset clock shows can come again with other figures, or
// much later with the same: it names them no longer than a message may be repeated.
func (r *Reading) place(at time.Time, stamp string, kept bool) {
	now := r.At
	switch age := now.Sub(at); {
	case age > oldest || age < -r.Period:
		r.Stamp, r.Once = fmt.Sprintf("%s/%d/%d", stamp, r.In, r.Out), unsetOnce
	case kept || age <= r.Period:
		r.At, r.Stamp = earlier(at.In(now.Location()), now), stamp
	default: // its clock is wrong, or the figures come late and nobody says so
		r.Stamp = stamp
	}
}

// zone gives a time zone by its IANA name; without a name that of China, which
// has had no summer time since 1991.
func zone(name string) (*time.Location, error) {
	if name == "" {
		return time.FixedZone("Asia/Shanghai", 8*3600), nil
	}
	return time.LoadLocation(name)
}
