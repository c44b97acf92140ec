package inbox

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hallagent/hallagent/sync/wire"
)

const (
	// Bytes of messages that wait: of a hall, and of all. The agent may be asked to
	// send again only once in 5 s, so that this is what a backlog drains in 5 s.
	mostWaiting    = 32 << 20
	mostWaitingAll = 256 << 20

	mostParked = 4 << 20 // bytes of a hall's messages that are put aside
	groupBytes = 1 << 20 // of messages in one transaction, beside those put aside

	hintStrange = "if the gateway's disk was replaced, its epochs count anew: put its boot file back; or stop all instances, delete the hall's rows of inbox_mark, start them again"

	retryFirst = 100 * time.Millisecond // after an error, doubling
	retryMost  = 5 * time.Second
)

// arrival is a message as it came.
type arrival struct {
	stream  string
	payload []byte
}

// hall serves one hall while run runs.
type hall struct {
	in     *Inbox
	broker Broker
	hall   wire.Hall
	token  int64
	since  time.Time
	wake   chan struct{}
	ctx    context.Context // of run, and of the transaction it is in
	stop   context.CancelFunc

	mu      sync.Mutex
	waiting []arrival
	bytes   int // of waiting
	streams map[string]*stream
	trouble string
	closed  bool // takes nothing more
	present bool // the agent was heard over this connection

	// Of run alone.
	ledgers map[string]*ledger
	parked  []*batch
	failed  int       // attempts in a row
	retry   time.Time // not before
}

// newHall must be run to serve anything, until ctx ends or stop is called.
func newHall(ctx context.Context, in *Inbox, broker Broker, l lease) *hall {
	h := &hall{
		in: in, broker: broker, hall: l.hall, token: l.token, since: time.Now(),
		wake: make(chan struct{}, 1), streams: map[string]*stream{},
	}
	h.ctx, h.stop = context.WithCancel(ctx)
	for _, s := range in.opts.Streams {
		h.streams[s] = &stream{book: newCounts(), renew: true}
	}
	return h
}

// arrived takes a message, or drops it when too many wait.
func (h *hall) arrived(stream string, payload []byte) {
	h.mu.Lock()
	h.present = true
	if h.closed {
		h.mu.Unlock()
		return
	}
	if h.bytes+len(payload) > mostWaiting || h.in.waiting.Load() > mostWaitingAll {
		h.streams[stream].overflow++
		h.streams[stream].dropped = true
	} else {
		h.waiting = append(h.waiting, arrival{stream, payload})
		h.bytes += len(payload)
		h.in.waiting.Add(int64(len(payload)))
	}
	h.mu.Unlock()
	signal(h.wake)
}

// take gives the messages for the next transaction.
func (h *hall) take() (batches []*batch) {
	h.mu.Lock()
	n, bytes := 0, 0
	for n < len(h.waiting) && (n == 0 || bytes+len(h.waiting[n].payload) <= groupBytes) {
		bytes += len(h.waiting[n].payload)
		n++
	}
	taken := h.waiting[:n:n]
	h.waiting, h.bytes = h.waiting[n:], h.bytes-bytes
	h.in.waiting.Add(int64(-bytes))
	h.mu.Unlock()
	for _, a := range taken {
		read, err := decode(h.hall, a.stream, a.payload)
		if err != nil {
			h.mu.Lock()
			h.streams[a.stream].malformed++
			h.mu.Unlock()
			h.in.log.Warn("message ignored", "hall", name(h.hall), "stream", a.stream, "err", err)
			continue
		}
		batches = append(batches, read...)
	}
	return batches
}

// run applies what comes until it is stopped or the lease ends.
func (h *hall) run() error {
	defer h.stop()
	tick := time.NewTicker(h.in.opts.Reorder / 4)
	defer tick.Stop()
	for {
		if err := h.turn(); errors.Is(err, errLost) {
			return err
		}
		h.renew()
		if h.failed == 0 {
			h.ask(time.Now())
		}
		var again <-chan time.Time
		if h.failed > 0 {
			again = time.After(time.Until(h.retry))
		}
		select {
		case <-h.ctx.Done():
			return nil
		case <-h.wake:
		case <-tick.C:
		case <-again:
		}
	}
}

// turn applies what waits, unless it is too early to try again.
func (h *hall) turn() error {
	for h.ctx.Err() == nil && !time.Now().Before(h.retry) {
		if h.ledgers == nil {
			if err := h.load(); err != nil {
				return h.fail(err)
			}
		}
		batches := h.parked
		if h.failed == 0 { // else what there is must do first
			fresh := h.take()
			batches = append(batches, fresh...)
			lost := h.restored(batches)
			if len(fresh)+len(lost) == 0 {
				return nil
			}
			batches = append(batches, lost...)
		}
		inOrder(batches)
		o, err := h.process(batches)
		if err != nil {
			h.parked = batches
			return h.fail(err)
		}
		h.ledgers = o.ledgers
		h.settle(o, time.Now())
		if o.stop != nil {
			return h.fail(o.stop)
		}
		h.recover()
	}
	return nil
}

// process applies batches in one transaction, or in none if that changes nothing.
func (h *hall) process(batches []*batch) (o *outcome, err error) {
	if o, ok := still(h.ledgers, batches); ok {
		return o, nil
	}
	try := func(m mode) error {
		ctx, cancel := context.WithTimeout(h.ctx, h.in.txLimit)
		defer cancel()
		return h.in.opts.Store.Tx(ctx, func(tx *sql.Tx) (err error) {
			o, err = h.apply(h.in.opts.Store.Statements(ctx), tx, batches, m)
			return err
		})
	}
	if err = try(bold); errors.Is(err, errEffect) {
		err = try(careful)
	}
	return o, err
}

func (h *hall) rows(tx *sql.Tx) rows {
	return rows{db: h.in.opts.Store, tx: tx, service: h.in.opts.Service, hall: name(h.hall)}
}

// load reads the marks and the books.
func (h *hall) load() error {
	ctx, cancel := context.WithTimeout(h.ctx, h.in.txLimit)
	defer cancel()
	var ledgers map[string]*ledger
	var books map[string]*counts
	err := h.in.opts.Store.Tx(ctx, func(tx *sql.Tx) (err error) {
		if err := h.in.fence(ctx, tx, h.hall, h.token); err != nil {
			return err
		}
		rows := h.rows(tx)
		if ledgers, err = rows.ledgers(ctx); err != nil {
			return err
		}
		for stream, l := range ledgers {
			if err := rows.forget(ctx, stream, l.taken()); err != nil {
				return err
			}
		}
		books, err = rows.books(ctx)
		return err
	})
	if err != nil {
		return err
	}
	h.ledgers = ledgers
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, s := range h.streams {
		if l := ledgers[name]; l != nil {
			s.epoch = l.current()
			s.mark = l.marks[s.epoch]
		}
		if books[name] != nil {
			s.book = books[name]
		}
	}
	h.trouble = ""
	h.failed = 0
	return nil
}

// fail has the next try wait.
func (h *hall) fail(err error) error {
	if h.ctx.Err() != nil || errors.Is(err, errLost) {
		return err
	}
	h.retry = time.Now().Add(min(retryMost, retryFirst<<min(h.failed, 10)))
	h.failed++
	h.mu.Lock()
	news := h.trouble == ""
	h.trouble = err.Error()
	h.mu.Unlock()
	if news {
		h.in.log.Warn("hall stands still", "hall", name(h.hall), "err", err, "hint", "nothing is lost: its records are tried again and kept by the agent")
	}
	return err
}

func (h *hall) recover() {
	if h.failed == 0 {
		return
	}
	h.failed = 0
	h.mu.Lock()
	h.trouble = ""
	h.mu.Unlock()
	h.in.log.Info("hall goes on", "hall", name(h.hall))
}

// settle takes over what became of some batches, and acknowledges it.
func (h *hall) settle(o *outcome, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	bytes := 0
	for _, s := range h.streams {
		s.waitsFor = ""
	}
	h.parked = slices.DeleteFunc(o.parked, func(b *batch) bool {
		s := h.streams[b.stream]
		if o.stop == nil {
			s.know(b.epoch, b.last())
			waits := cmp.Or(o.ledgers[b.stream].waitsFor(&b.records[0]), b.epoch)
			if s.waitsFor == "" || waits < s.waitsFor {
				s.waitsFor = waits
			}
		}
		bytes += b.bytes
		if bytes > mostParked {
			s.overflow++
			return true
		}
		return false
	})
	for p, c := range o.books {
		h.streams[p.stream].book.add(c)
	}
	for stream, s := range h.streams {
		l := o.ledgers[stream]
		if l == nil {
			continue
		}
		epoch := l.current()
		if mark := l.marks[epoch]; epoch != s.epoch || mark != s.mark {
			s.epoch, s.mark, s.since = epoch, mark, now
			s.progress(now)
		}
	}
	for stream, epoch := range o.strange {
		s := h.streams[stream]
		if s.strange == "" {
			h.in.log.Error("records are dropped", "hall", name(h.hall), "stream", stream, "epoch", epoch, "err", "epoch is older than "+s.epoch+" and was never heard of", "hint", hintStrange)
		}
		s.strange = epoch
	}
	older := func(a, b place) int { return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(a.epoch, b.epoch)) }
	for _, p := range slices.SortedFunc(maps.Keys(o.touched), older) { // the agent takes a word only after those on older epochs
		mark := o.ledgers[p.stream].marks[p.epoch]
		switch s := h.streams[p.stream]; {
		case mark == 0:
		case p.epoch == s.epoch:
			h.broker.Retain(h.hall.Ack(p.stream), ack(p.epoch, mark, false))
		default:
			h.in.publish(h.broker, h.hall.Ack(p.stream), ack(p.epoch, mark, false))
		}
	}
}

// renew says again how far the streams are, where somebody may not know.
func (h *hall) renew() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, s := range h.streams {
		if s.renew && h.ledgers != nil {
			s.renew = false
			if s.mark > 0 {
				h.broker.Retain(h.hall.Ack(name), ack(s.epoch, s.mark, false))
			}
		}
	}
}

// close lets go of what waits; nothing comes any more.
func (h *hall) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.in.waiting.Add(int64(-h.bytes))
	h.waiting, h.bytes, h.closed = nil, 0, true
}

// forget leaves the topics of the acknowledgements to whoever serves the hall now.
func (h *hall) forget() {
	for stream := range h.streams {
		h.broker.Forget(h.hall.Ack(stream))
	}
}

// describe fills in what this instance knows of the hall.
func (h *hall) describe(v *Hall) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v.Serving, v.Since, v.Err, v.Waiting = true, h.since, h.trouble, len(h.waiting)
	for _, name := range h.in.opts.Streams {
		if s := h.streams[name]; v.Err == "" && s.strange != "" {
			v.Err = fmt.Sprintf("records of %s are dropped: epoch %s is older than %s and was never heard of; %s", name, s.strange, s.epoch, hintStrange)
		}
		v.Streams = append(v.Streams, h.streams[name].describe(name))
	}
}
