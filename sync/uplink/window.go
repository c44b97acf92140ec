package uplink

import "time"

const (
	maxMessages = 64
	standing    = 250 * time.Millisecond // of throughput may wait in the connection
	firstBytes  = 64 << 10               // in flight until the first measurement
)

// flight is a message on its way.
type flight struct {
	bytes     int
	sent      time.Time
	delivered int64 // by the window when this was sent
	full      bool  // the window was, when this was sent
	confirmed bool
}

// window bounds what is in flight: messages, and bytes by the measured
// throughput. The limit is throughput times the shortest round trip plus what
// may stand in the connection's queues; without the round trip a long line
// would make the window shrink, the measurement with it, and so on down.
type window struct {
	messages   int
	bytes      int
	delivered  int64
	throughput float64 // bytes per second, 0 before the first measurement
	roundTrip  time.Duration
}

func (w *window) limit() int {
	if w.throughput == 0 {
		return firstBytes
	}
	return int(w.throughput * (standing + w.roundTrip).Seconds())
}

// open tells whether one more message may go; one always may.
func (w *window) open() bool {
	return w.messages == 0 || w.messages < maxMessages && w.bytes < w.limit()
}

func (w *window) send(bytes int, now time.Time) *flight {
	w.messages++
	w.bytes += bytes
	return &flight{bytes: bytes, sent: now, delivered: w.delivered, full: !w.open()}
}

// confirm takes a message out of the window and measures: what was delivered
// since it was sent, over the time since. When there was too little to send, a
// low figure says nothing about the line.
func (w *window) confirm(f *flight, now time.Time) {
	f.confirmed = true
	w.messages--
	w.bytes -= f.bytes
	w.delivered += int64(f.bytes)
	took := max(now.Sub(f.sent), 100*time.Microsecond)
	if w.roundTrip == 0 || took < w.roundTrip {
		w.roundTrip = took
	}
	measured := float64(w.delivered-f.delivered) / took.Seconds()
	switch {
	case w.throughput == 0:
		w.throughput = measured
	case measured > w.throughput:
		w.throughput += (measured - w.throughput) / 4
	case f.full:
		w.throughput += (measured - w.throughput) / 8
	}
}

// bucket lets a number of things per second pass, with a burst of a quarter of a
// second. A zero rate lets everything pass.
type bucket struct {
	rate   float64
	tokens float64
	last   time.Time
}

func newBucket(rate int, now time.Time) *bucket {
	return &bucket{rate: float64(rate), tokens: 1, last: now}
}

// ready gives how many things may pass now, and if none, when one may.
func (b *bucket) ready(now time.Time) (n int, wait time.Duration) {
	if b.rate == 0 {
		return maxBatch, 0
	}
	b.tokens = min(b.tokens+now.Sub(b.last).Seconds()*b.rate, max(1, b.rate/4))
	b.last = now
	if b.tokens >= 1 {
		return int(b.tokens), 0
	}
	return 0, time.Duration((1-b.tokens)/b.rate*float64(time.Second)) + time.Microsecond
}

func (b *bucket) take(n int) {
	if b.rate != 0 {
		b.tokens -= float64(n)
	}
}

// meter counts over the last ten seconds.
type meter struct {
	counts [10]uint64
	first  int64 // second of the first count, 0 before
	last   int64 // second of the last count
}

func (m *meter) add(n uint64, now time.Time) {
	m.turn(now.Unix())
	m.counts[m.last%10] += n
}

// turn clears the seconds that have gone by.
func (m *meter) turn(second int64) {
	if m.first == 0 || second < m.last { // the clock was set back
		*m = meter{first: second, last: second}
	}
	for ; m.last < second; m.last++ {
		if second-m.last > 10 {
			m.last = second - 10
		}
		m.counts[(m.last+1)%10] = 0
	}
}

// rate per second.
func (m *meter) rate(now time.Time) float64 {
	if m.first == 0 {
		return 0
	}
	m.turn(now.Unix())
	var sum uint64
	for _, n := range m.counts {
		sum += n
	}
	return float64(sum) / float64(min(10, m.last-m.first+1))
}
