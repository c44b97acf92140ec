package device

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	firstRetry  = 100 * time.Millisecond // longest pause before the first retry
	lastRetry   = 2 * time.Second        // longest pause ever: a replugged device is back within 3 s
	repeatEvery = 30 * time.Second       // the same trouble is logged once in this time
)

// errEnded stands in for a Use that returns without an error before its time.
var errEnded = errors.New("use of the line ended")

// Link keeps one line open and in use. It belongs to whoever calls Run.
//
// A line is Online from the first valid answer until it is closed. One that is
// open and does not answer is Wedged, and stays so through the closing and
// opening that may cure it, until it is heard again or cannot be opened any
// more: a device that is stuck must not look like one that is starting. For the
// same reason the cause of trouble stays until the line is heard, though it may
// be open again: a line that is taken and dropped in turns is not well between.
type Link struct {
	name string
	open func(context.Context) (io.Closer, error)
	work func(context.Context, io.Closer) error
	log  *slog.Logger

	mu     sync.Mutex
	status Status
	heard  bool // since the line was last opened
	said   remark
	when   map[remark]time.Time // each remark was last logged
	held   int                  // remarks not logged since
}

// remark is what the log says of a line.
type remark struct {
	state State
	code  string
}

// NewLink makes the link of the line with that name (the id of the
// configuration). Nothing is opened before Run.
func NewLink(name string, dial Dial, use Use, log *slog.Logger) *Link {
	l := newLink(name, log)
	l.open = func(ctx context.Context) (io.Closer, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return l.count(c), nil
	}
	l.work = func(ctx context.Context, c io.Closer) error { return use(ctx, c.(Conn), l.hear) }
	return l
}

func newLink(name string, log *slog.Logger) *Link {
	return &Link{
		name: name, log: log.With("line", name),
		status: Status{State: Waiting, Since: time.Now()},
		said:   remark{state: Waiting},
		when:   map[remark]time.Time{},
	}
}

// Status is a snapshot, safe to take at any time.
func (l *Link) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Run dials, uses and closes the line, pauses with full jitter, and starts
// again. It returns ctx's error once ctx ends and the line is closed, and
// nothing else. A panic of the Use passes through with the line closed.
func (l *Link) Run(ctx context.Context) error {
	for retry := 0; ; retry++ {
		heard, err := l.once(ctx)
		if ctx.Err() != nil {
			l.stopped()
			return ctx.Err()
		}
		if heard {
			retry = 0
		}
		l.failed(err)
		select {
		case <-ctx.Done():
		case <-time.After(pause(retry)):
		}
	}
}

// once opens the line and uses it to its end.
func (l *Link) once(ctx context.Context) (heard bool, err error) {
	c, err := l.open(ctx)
	if err != nil {
		l.closed()
		return false, err
	}
	l.opened()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer func() {
		stop()
		c.Close() // waits for a close under way
	}()
	err = l.work(ctx, c)
	if err == nil {
		err = errEnded
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard, err
}

// pause is how long to wait before the retry of that number, counted from 0.
func pause(retry int) time.Duration {
	longest := lastRetry
	if retry < 5 {
		longest = min(firstRetry<<retry, lastRetry)
	}
	return rand.N(longest + 1)
}

func (l *Link) opened() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = false
	l.status.Opens++
}

// closed says that the line could not be opened, so it is no longer Wedged.
func (l *Link) closed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = false
	l.enter(Waiting)
}

func (l *Link) hear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = true
	if l.status.State == Online {
		return
	}
	l.enter(Online)
	l.status.Code, l.status.Err, l.status.Hint = "", "", ""
	l.say(slog.LevelInfo, "line is online")
}

func (l *Link) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, ErrSilent):
		l.enter(Wedged)
	case l.status.State != Wedged:
		l.enter(Waiting)
	}
	l.status.Code, l.status.Hint = Cause(err)
	l.status.Err = err.Error()
	msg := "line is not usable"
	if l.status.State == Wedged {
		msg = "line does not answer"
	}
	attrs := []any{"code", l.status.Code, "err", err}
	if l.status.Hint != "" {
		attrs = append(attrs, "hint", l.status.Hint)
	}
	l.say(slog.LevelWarn, msg, attrs...)
}

// stopped ends an Online; of a line that was not usable it leaves the reason.
func (l *Link) stopped() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.status.State == Online || l.status.Code == "" {
		l.status.Code, l.status.Err, l.status.Hint = "closed", "", ""
	}
	l.enter(Waiting)
}

// enter changes the state; Since is that of the state, not of its cause.
func (l *Link) enter(s State) {
	if l.status.State != s {
		l.status.State, l.status.Since = s, time.Now()
	}
}

// say logs a change. A line that comes and goes would fill the log, so the same
// trouble is said once in repeatEvery; the Online that follows an unsaid
// trouble is no change to the reader of the log, and is not said either.
func (l *Link) say(level slog.Level, msg string, attrs ...any) {
	r := remark{l.status.State, l.status.Code}
	if r == l.said {
		return
	}
	now := time.Now()
	if last, ok := l.when[r]; ok && r.state != Online && now.Sub(last) < repeatEvery {
		l.held++
		return
	}
	if l.held > 0 {
		attrs = append(attrs, "repeats", l.held)
	}
	l.log.Log(context.Background(), level, msg, attrs...)
	l.said, l.when[r], l.held = r, now, 0
}
