package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// TextOptions says which counter that sends lines of text is imitated.
type TextOptions struct {
	Form   TextForm
	Serial string        // of units that share a line, before what they say; or the rule's name
	End    string        // of a line, \r\n if empty
	Sum    bool          // the XOR of the line's bytes stands behind it, as *5A
	Ask    string        // what it answers; it speaks by itself if empty
	Period time.Duration // of TextPeriods
	Start  [2]uint64
	Baud   int // bytes of answers are paced at this rate; 0: as fast as it goes
}

// TextForm is what a line looks like.
type TextForm string

// The forms of lines.
const (
	TextChars   TextForm = "one-char" // I or O for each pass
	TextTotals  TextForm = "in-out"   // IN=123 OUT=118 after each pass
	TextPeriods TextForm = "vivotek"  // Counting,<rule>,<in>,<out>,<start>,<end> after each period
)

// TextCounter is an entrance counter that sends lines of text. What happens while
// nobody is connected it does not tell later, except in its totals.
type TextCounter struct {
	tally
	opts   TextOptions
	said   chan []byte // lines for who is connected
	served int         // who is connected
	since  [2]uint64   // totals at the last period's end
}

const unsent = 1000 // lines that may wait for a slow line

// NewTextCounter returns a counter that nobody has passed yet.
func NewTextCounter(o TextOptions) *TextCounter {
	if o.End == "" {
		o.End = "\r\n"
	}
	c := &TextCounter{opts: o, said: make(chan []byte, unsent), since: o.Start}
	c.totals = o.Start
	return c
}

// Pass lets people through; who is connected hears of it.
func (c *TextCounter) Pass(in, out uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in, out = c.pass(in, out)
	switch {
	case c.opts.Ask != "":
	case c.opts.Form == TextChars:
		for range in {
			c.say("I")
		}
		for range out {
			c.say("O")
		}
	case c.opts.Form == TextTotals:
		c.say(c.line())
	}
}

// Reset sets the totals to zero, as a power failure does.
func (c *TextCounter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totals, c.since = [2]uint64{}, [2]uint64{}
}

// say sends a line to who is connected. Called with c.mu held.
func (c *TextCounter) say(text string) {
	if c.silent || c.served == 0 {
		return
	}
	select {
	case c.said <- c.frame(text):
	default: // the line is too slow for a UART that waits for nobody
	}
}

// line shows the totals. Called with c.mu held.
func (c *TextCounter) line() string { return fmt.Sprintf("IN=%d OUT=%d", c.totals[0], c.totals[1]) }

// frame puts a line together. Called with c.mu held.
func (c *TextCounter) frame(text string) []byte {
	if c.opts.Serial != "" && c.opts.Form != TextPeriods {
		text = c.opts.Serial + " " + text
	}
	sum := -1
	if c.opts.Sum {
		x := byte(0)
		for _, b := range []byte(text) {
			x ^= b
		}
		text += fmt.Sprintf("*%02X", x)
		sum = len(text) - 1
	}
	return c.spoil([]byte(text+c.opts.End), sum)
}

// Serve tells who is at the other end of rw what happens, until rw fails or ctx
// ends, and closes rw at the end.
func (c *TextCounter) Serve(ctx context.Context, rw io.ReadWriteCloser) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer rw.Close()
	defer context.AfterFunc(ctx, func() { rw.Close() })()
	c.mu.Lock()
	c.served++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.served--
	}()
	reading.Go(func() { // nothing that is said to it matters, but that the peer goes does
		_, err := io.Copy(io.Discard, rw)
		cancel(errors.Join(errors.New("the peer is gone"), err))
	})
	var period <-chan time.Time
	if c.opts.Form == TextPeriods {
		tick := time.NewTicker(c.opts.Period)
		defer tick.Stop()
		period = tick.C
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-period:
			c.endPeriod(now)
		case line := <-c.said:
			if _, err := rw.Write(line); ctx.Err() != nil {
				return context.Cause(ctx)
			} else if err != nil {
				return fmt.Errorf("write line: %w", err)
			}
		}
	}
}

// endPeriod tells what passed in the period that is over.
func (c *TextCounter) endPeriod(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	const form = "2006/01/02 15:04:05"
	c.say(fmt.Sprintf("Counting,%s,%d,%d,%s,%s", c.opts.Serial, c.totals[0]-c.since[0], c.totals[1]-c.since[1],
		now.Add(-c.opts.Period).Format(form), now.Format(form)))
	c.since = c.totals
}

func (c *TextCounter) pace() int { return c.opts.Baud }

// find looks for what the counter is asked with.
func (c *TextCounter) find(come []byte) (request, rest []byte) {
	_, rest, found := bytes.Cut(come, []byte(c.opts.Ask))
	if !found || c.opts.Ask == "" {
		return nil, come
	}
	return []byte(c.opts.Ask), rest
}

func (c *TextCounter) reply([]byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.silent {
		return nil
	}
	return c.frame(c.line())
}
