package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
)

// IROptions says which infrared unit is imitated.
type IROptions struct {
	Dialect string // fa or 7e
	Serial  string

	// Period is how often it uploads, whatever it is told; 0: as it is told, and
	// every 5 minutes before that.
	Period time.Duration

	Zone *time.Location // of the clock it is set to; UTC+8 if nil
	Keep bool           // one connection for all, else a new one for each message
}

// IRFaults is what can be the matter with a unit. The zero value is one that is
// well, with the manners of real ones: a record that is not answered is lost.
type IRFaults struct {
	Lose    int           // uploads that go nowhere from now on
	NoClock bool          // it does not keep the time it is told
	Resend  bool          // a record that is not answered well is sent again
	TwiceIn int           // one in so many passes counts twice; 0: none
	WrongIn int           // one in so many passes counts the other way; 0: none
	Battery int           // per cent; 0 is a full one
	Offline bool          // it calls its transmitter offline, as most do while they count
	Slow    time.Duration // between two bytes
	DeafTo  int           // answers to uploads that do not reach it from now on
}

// IRUnit is a wireless infrared counter that dials in: it asks for the time until
// it is answered right, and uploads what passed in each period.
type IRUnit struct {
	opts IROptions

	mu      sync.Mutex
	faults  IRFaults
	passes  uint64    // numbers them for the faults
	now     [2]uint64 // counted in this period
	totals  [2]uint64 // who really passed
	queue   []irRecord
	ahead   time.Duration // of the unit's clock before ours
	told    bool          // the time
	silent  bool
	period  time.Duration
	answers uint64
	changed chan struct{} // closed when something is set from outside
	conn    net.Conn      // open with Keep
	seq     uint16
}

// irRecord is what passed in a period.
type irRecord struct {
	counts [2]uint64
	end    time.Time // of the unit's clock
	sent   bool      // before
}

const (
	irAsks    = 5 * time.Second  // between two questions for the time
	irBeats   = 30 * time.Second // between two heartbeats of the 7E dialect
	irPeriod  = 5 * time.Minute
	irPatient = 5 * time.Second // for an answer
)

// Dial opens a connection from a device to its server.
type Dial func(context.Context) (net.Conn, error)

// NewIRUnit returns a unit that nobody has passed yet and whose clock is not set.
func NewIRUnit(o IROptions) *IRUnit {
	u := &IRUnit{opts: o, changed: make(chan struct{})}
	if u.opts.Zone == nil {
		u.opts.Zone = time.FixedZone("UTC+8", 8*3600)
	}
	u.Reset()
	return u
}

// Pass lets people through.
func (u *IRUnit) Pass(in, out uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for way, n := range [2]uint64{in, out} {
		u.totals[way] += n
		for range n {
			u.passes++
			to, times := way, uint64(1)
			if f := u.faults.WrongIn; f > 0 && u.passes%uint64(f) == 0 {
				to = 1 - way
			}
			if f := u.faults.TwiceIn; f > 0 && u.passes%uint64(f) == 0 {
				times = 2
			}
			u.now[to] += times
		}
	}
}

// Totals is who really passed, counted right or not.
func (u *IRUnit) Totals() (in, out uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.totals[0], u.totals[1]
}

// Reset is a power failure: what was not uploaded is lost, and the clock stands
// at its factory's time.
func (u *IRUnit) Reset() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.now, u.queue, u.seq, u.told = [2]uint64{}, nil, 0, false
	u.ahead = time.Until(time.Date(2019, 11, 1, 11, 0, 0, 0, u.opts.Zone))
	u.period = irPeriod
	if u.opts.Period > 0 {
		u.period = u.opts.Period
	}
	u.stir()
}

// Silence makes the unit count and not speak.
func (u *IRUnit) Silence(on bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.silent = on
	u.stir()
}

// Fail changes what is the matter with the unit.
func (u *IRUnit) Fail(change func(*IRFaults)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(&u.faults)
	u.stir()
}

// Asked is how many messages were answered well.
func (u *IRUnit) Asked() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.answers
}

// stir lets Run look again at what is to do.
func (u *IRUnit) stir() {
	close(u.changed)
	u.changed = make(chan struct{})
}

// Run speaks with the server behind dial until ctx ends, whose error it gives.
func (u *IRUnit) Run(ctx context.Context, dial Dial) error {
	defer u.hangUp()
	upload, beat := time.Now().Add(u.every()), time.Now()
	for {
		next := beat
		if upload.Before(next) {
			next = upload
		}
		if again, err := u.wait(ctx, next); err != nil {
			return err
		} else if again {
			upload = earliest(upload, time.Now().Add(u.every()))
			continue
		}
		if now := time.Now(); !now.Before(upload) {
			upload = upload.Add(u.every())
			u.endPeriod()
			u.uploadAll(ctx, dial)
			continue
		}
		beat = time.Now().Add(irAsks)
		if u.settled() {
			beat = time.Now().Add(irBeats)
			u.uploadAll(ctx, dial) // what waits is tried again
		}
		if !u.settled() || u.opts.Dialect == "7e" {
			u.beat(ctx, dial)
		}
	}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// wait returns at its time, or before that when something was changed.
func (u *IRUnit) wait(ctx context.Context, until time.Time) (again bool, err error) {
	u.mu.Lock()
	changed := u.changed
	u.mu.Unlock()
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-t.C:
		return false, nil
	case <-changed:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (u *IRUnit) every() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.period
}

// settled says that the unit need not ask for the time.
func (u *IRUnit) settled() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.told
}

// endPeriod makes a record of what passed.
func (u *IRUnit) endPeriod() {
	u.mu.Lock()
	defer u.mu.Unlock()
	end := time.Now().Add(u.ahead).In(u.opts.Zone)
	if u.period >= time.Minute {
		end = end.Truncate(time.Minute) // as real ones cut it
	}
	r := irRecord{counts: u.now, end: end}
	u.now = [2]uint64{}
	if u.faults.Lose > 0 {
		u.faults.Lose--
		return
	}
	u.queue = append(u.queue, r)
}

// uploadAll sends what waits, the oldest first.
func (u *IRUnit) uploadAll(ctx context.Context, dial Dial) {
	for {
		u.mu.Lock()
		if len(u.queue) == 0 || u.silent {
			u.mu.Unlock()
			return
		}
		r := u.queue[0]
		u.queue[0].sent = true
		resend := u.faults.Resend
		u.mu.Unlock()
		err := u.exchange(ctx, dial, func(seq uint16, f IRFaults) []byte { return u.uploadFrame(seq, r, f) })
		u.mu.Lock()
		if u.faults.DeafTo > 0 {
			u.faults.DeafTo--
			err = errors.New("the answer got lost")
		}
		if err != nil && resend {
			u.mu.Unlock()
			return
		}
		u.queue = slices.Delete(u.queue, 0, min(1, len(u.queue)))
		u.mu.Unlock()
	}
}

// beat asks for the time, or says that the unit lives.
func (u *IRUnit) beat(ctx context.Context, dial Dial) {
	u.mu.Lock()
	silent := u.silent
	u.mu.Unlock()
	if !silent {
		_ = u.exchange(ctx, dial, u.beatFrame) // it comes again
	}
}

// exchange sends one message and takes the answer.
func (u *IRUnit) exchange(ctx context.Context, dial Dial, frame func(uint16, IRFaults) []byte) error {
	u.mu.Lock()
	u.seq++
	seq, faults := u.seq, u.faults
	kept := u.conn
	u.conn = nil
	u.mu.Unlock()
	answer, c, err := irAnswer{}, kept, error(nil)
	if kept != nil {
		answer, err = u.talk(ctx, kept, frame(seq, faults), faults)
	}
	if kept == nil || err != nil { // the server may have closed it meanwhile
		if c, err = dial(ctx); err != nil {
			return err
		}
		answer, err = u.talk(ctx, c, frame(seq, faults), faults)
	}
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.opts.Keep {
		u.conn = c
	} else {
		c.Close()
	}
	if answer.seq != seq && u.opts.Dialect == "fa" {
		return fmt.Errorf("answer to message %d, not %d", answer.seq, seq)
	}
	if answer.status != 0 {
		return fmt.Errorf("answered with status %d", answer.status)
	}
	u.answers++
	if !answer.now.IsZero() && !u.faults.NoClock {
		u.ahead = answer.now.Sub(time.Now().Truncate(time.Second))
	}
	if !answer.now.IsZero() {
		u.told = true
	}
	if answer.upload > 0 && u.opts.Period == 0 && answer.upload != u.period {
		u.period = answer.upload
		u.stir()
	}
	return nil
}

// talk writes a frame, as slowly as the unit is, and reads the answer. It closes
// the connection when that fails.
func (u *IRUnit) talk(ctx context.Context, c net.Conn, frame []byte, f IRFaults) (a irAnswer, err error) {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	step := len(frame)
	if f.Slow > 0 {
		step = 1
	}
	for part := range slices.Chunk(frame, step) {
		if err := device.Pause(ctx, f.Slow); err != nil {
			return irAnswer{}, err
		}
		if _, err := c.Write(part); err != nil {
			return irAnswer{}, err
		}
	}
	if err := c.SetReadDeadline(time.Now().Add(irPatient)); err != nil {
		return irAnswer{}, err
	}
	if u.opts.Dialect == "fa" {
		return readIRAnswerFA(c, u.opts.Zone)
	}
	return readIRAnswer7E(c, u.opts.Zone)
}

func (u *IRUnit) hangUp() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.conn != nil {
		u.conn.Close()
		u.conn = nil
	}
}
