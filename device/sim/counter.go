package sim

import (
	"bytes"
	"sync"
)

// Counter is a simulated entrance counter of any kind.
type Counter interface {
	Pass(in, out uint64)      // lets people through
	Totals() (in, out uint64) // what it has counted, without any rollover
	Reset()                   // sets the totals to zero, as a power failure does
	Silence(on bool)          // it counts and says nothing
	Asked() uint64            // requests that came for it, answered or not
	SetFaults(faults CounterFaults)
}

// CounterFaults are what is the matter with a counter and its line. The zero value
// is one that is well. What happens a number of times is over after that.
type CounterFaults struct {
	Doubles bool // each pass counts twice, as a bag behind its owner does
	Turned  bool // in counts as out, as after mounting the wrong way round
	Noise   int  // so many answers have meaningless bytes before them
	Halves  int  // so many answers end half-way
	Wrong   int  // so many answers have a wrong checksum
	Lost    int  // so many answers are worked out and not sent
}

// tally is what all simulated counters have in common.
type tally struct {
	mu     sync.Mutex
	totals [2]uint64
	silent bool
	asked  uint64
	faults CounterFaults
}

func (c *tally) Pass(in, out uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pass(in, out)
}

// pass gives what is counted. Called with c.mu held.
func (c *tally) pass(in, out uint64) (countedIn, countedOut uint64) {
	if c.faults.Turned {
		in, out = out, in
	}
	if c.faults.Doubles {
		in, out = 2*in, 2*out
	}
	c.totals[0] += in
	c.totals[1] += out
	return in, out
}

func (c *tally) Totals() (in, out uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.totals[0], c.totals[1]
}

func (c *tally) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totals = [2]uint64{}
}

func (c *tally) Silence(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = on
}

func (c *tally) Asked() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func (c *tally) SetFaults(f CounterFaults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = f
}

// spoil makes of an answer what the faults make of it, nil for none. Sum is where a
// byte of its checksum stands, -1 without one. Called with c.mu held.
func (c *tally) spoil(frame []byte, sum int) []byte {
	f := &c.faults
	due := func(times *int) bool {
		if *times == 0 {
			return false
		}
		*times--
		return true
	}
	frame = bytes.Clone(frame)
	if sum >= 0 && due(&f.Wrong) {
		frame[sum] ^= 1
	}
	if due(&f.Halves) {
		frame = frame[:len(frame)/2]
	}
	if due(&f.Noise) {
		// Heads of frames of every protocol are in it.
		frame = append([]byte{0x00, 0x7F, 0xFF, 0x02, 0x7E, 0x31}, frame...)
	}
	if due(&f.Lost) {
		return nil
	}
	return frame
}
