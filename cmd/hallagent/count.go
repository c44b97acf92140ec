package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
)

type countCommand struct {
	Line    string        `help:"The line's url, as in the configuration." placeholder:"URL"`
	Kind    string        `help:"Kind of counter: ${counters}." placeholder:"KIND"`
	With    string        `help:"Further keys of the counter, as in the configuration." placeholder:"KEYS"`
	Counter string        `help:"A counter of the configuration instead, with its line." placeholder:"ID"`
	Poll    time.Duration `help:"Time between two readings of a counter that is asked." default:"1s"`
	Within  time.Duration `help:"End after this time; 0 is never." default:"0s"`
}

func (countCommand) Help() string {
	return "Each change is a line: the totals as the hall sees them, and what was added. Nothing is stored and nothing " +
		"is sent but what reads. The agent must not hold the line.\n\nExamples:\n" +
		"  hallagent count --line tcp://10.0.0.7:502 --kind modbus --with 'station: 1, map: {in: {function: 3, address: 0, words: 2, order: high}}'\n" +
		"  hallagent count --line pulse:///dev/ttyUSB0 --kind pulse --with 'in: cts, out: dsr'\n" +
		"  hallagent count --counter gate-1"
}

// Validate wants one of the two ways to name a counter.
func (c countCommand) Validate() error {
	if (c.Counter == "") == (c.Line == "" || c.Kind == "") {
		return errors.New("give --line and --kind, or --counter ID of the configuration")
	}
	return nil
}

func (c countCommand) Run(ctx context.Context, g *commands, s streams) error {
	line, k, err := c.find(g, s)
	if err != nil {
		return err
	}
	own := counter.Config{ID: "counter", Kind: k.Kind, Door: "door", Swap: k.Swap, Rate: k.Rate, Settings: k.Settings}
	nothing := func(string) ([]byte, error) { return nil, nil }
	forget := func(context.Context, counter.Update) error { return nil }
	owner, err := counter.NewOwner(line, []counter.Config{own}, c.Poll, nothing, forget, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if c.Within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Within)
		defer cancel()
	}
	link := agent.Link("line", line, owner.Use, slog.New(slog.NewTextHandler(s.err, nil)))
	fmt.Fprintf(s.err, "%s: Ctrl-C 结束 / Ctrl-C ends\n", line)
	var wg sync.WaitGroup
	wg.Go(func() { link.Run(ctx) })
	err = watch(ctx, s.out, owner)
	wg.Wait()
	return err
}

// find gives the counter and the address of its line.
func (c countCommand) find(g *commands, s streams) (device.Address, config.Counter, error) {
	if c.Counter != "" {
		cfg, err := load(g.Config, s)
		if err != nil {
			return device.Address{}, config.Counter{}, err
		}
		for _, k := range cfg.Counters {
			if k.ID == c.Counter {
				line, _ := cfg.LineOf(k.Line)
				return line.URL.Address, k, nil
			}
		}
		return device.Address{}, config.Counter{}, fmt.Errorf("count: no counter %q in %s", c.Counter, g.Config)
	}
	line, err := device.ParseAddress(c.Line)
	if err != nil {
		return line, config.Counter{}, err
	}
	k, problems := config.ParseCounter([]byte("{kind: "+c.Kind+", "+strings.TrimSpace(c.With)+"}"), line)
	if errs := problems.Errors(); len(errs) > 0 {
		return line, k, fmt.Errorf("count:\n%s", errs.Print("--with"))
	}
	return line, k, nil
}

// watch prints a line for each change until ctx ends.
func watch(ctx context.Context, out io.Writer, owner counter.Owner) error {
	const look = 100 * time.Millisecond
	tick := time.NewTicker(look)
	defer tick.Stop()
	var last counter.Status
	strangers := 0
	for {
		s := owner.Status()[0]
		if text := change(last, s); text != "" {
			if _, err := fmt.Fprintf(out, "%s  %s\n", time.Now().Format("15:04:05"), text); err != nil {
				return err
			}
		}
		last = s
		if all := owner.Strangers(); len(all) > strangers {
			strangers = len(all)
			if _, err := fmt.Fprintf(out, "未配置的设备 / not configured: %s\n", strings.Join(all, ", ")); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// change says what is new in a status, "" if nothing is.
func change(last, s counter.Status) string {
	var parts []string
	if s.State != last.State || s.Code != last.Code {
		text := string(s.State)
		if s.Code != "" {
			text += " " + s.Code
		}
		if s.Err != "" {
			text += ": " + s.Err
		}
		parts = append(parts, text)
	}
	first := last.LastReading.IsZero() && !s.LastReading.IsZero()
	if first || s.In != last.In || s.Out != last.Out {
		text := fmt.Sprintf("进 in %d  出 out %d", s.In, s.Out)
		if !first {
			text += fmt.Sprintf("  (%+d %+d)", int64(s.In-last.In), int64(s.Out-last.Out))
		}
		parts = append(parts, text)
	}
	for _, n := range []struct {
		name     string
		now, was uint64
	}{
		{"复位 reset", s.Resets, last.Resets}, {"回零 rollover", s.Rollovers, last.Rollovers}, {"跳变 leap", s.Rebases, last.Rebases},
		{"重复 duplicate", s.Duplicates, last.Duplicates}, {"干扰 noise", s.Noise, last.Noise}, {"方向不明 no direction", s.Undirected, last.Undirected},
	} {
		if n.now > n.was {
			parts = append(parts, fmt.Sprintf("%s %d", n.name, n.now))
		}
	}
	return strings.Join(parts, "  ")
}
