package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/sync/outbox"
)

type outboxCommand struct {
	Ls      outboxLs      `cmd:"" help:"Tell what waits in each store, and what was set aside."`
	Export  outboxExport  `cmd:"" help:"Print the records that wait, one JSON object a line."`
	Compact outboxCompact `cmd:"" help:"Write a store anew without the space that is free in it."`
	Verify  outboxVerify  `cmd:"" help:"Look through a whole store and tell what is wrong with it."`
}

func (outboxCommand) Help() string {
	return "A running agent is asked; without one the files are read themselves.\n\nExample:\n  hallagent outbox ls\n  hallagent outbox export > visits.jsonl\n  hallagent outbox verify /var/lib/hallagent/visits.db.damaged-20260302T093000"
}

// storeOf names the store a command is about: one of the configured agent, or a
// file.
type storeOf struct {
	Stream string `help:"The stream (${default})." default:"visits" placeholder:"NAME"`
	File   string `arg:"" optional:"" help:"A store's file, such as one that was set aside, in place of the agent's." placeholder:"FILE" type:"existingfile"`
}

// path gives the file, and asks whether a running agent has it open.
func (o storeOf) path(c *commands, s streams) (path, data string, err error) {
	if o.File != "" {
		return o.File, "", nil
	}
	cfg, err := load(c.Config, s)
	if err != nil {
		return "", "", err
	}
	if !slices.Contains(agent.Streams(), o.Stream) {
		return "", "", fmt.Errorf("no stream %q; there are %s", o.Stream, strings.Join(agent.Streams(), ", "))
	}
	return agent.StorePath(cfg.Data, o.Stream), cfg.Data, nil
}

// errNoAgent says that no agent runs with a data directory.
var errNoAgent = errors.New("no agent runs")

// askAgent calls the agent with that data directory and hands over what it says.
func askAgent(ctx context.Context, data, method, path string, use func(io.Reader) error) error {
	if data == "" {
		return errNoAgent
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, nil)
	if err != nil {
		return fmt.Errorf("ask the agent: %w", err)
	}
	client := agent.ControlClient(data)
	client.Timeout = 0 // a large store takes its time
	answer, err := client.Do(req)
	if dial := new(net.OpError); errors.As(err, &dial) && dial.Op == "dial" && !errors.Is(err, os.ErrPermission) {
		return errNoAgent
	}
	if err != nil {
		return fmt.Errorf("ask the agent: %w\nhint: run this command as the agent's user", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
		return errors.Join(fmt.Errorf("ask the agent: %s", bytes.TrimSpace(body)), err)
	}
	if err := use(answer.Body); err != nil {
		return err
	}
	if trouble := answer.Trailer.Get("Error"); trouble != "" {
		return fmt.Errorf("ask the agent: %s", trouble)
	}
	return nil
}

func askFor(ctx context.Context, data, method, path string, answer any) error {
	return askAgent(ctx, data, method, path, func(r io.Reader) error {
		if err := json.NewDecoder(r).Decode(answer); err != nil {
			return fmt.Errorf("read the agent's answer: %w", err)
		}
		return nil
	})
}

type outboxLs struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (l outboxLs) Run(ctx context.Context, c *commands, s streams) error {
	cfg, err := load(c.Config, s)
	if err != nil {
		return err
	}
	all := map[string]outbox.Status{}
	for _, stream := range agent.Streams() {
		status := outbox.Status{}
		err := askFor(ctx, cfg.Data, http.MethodGet, "/outbox/"+stream, &status)
		if errors.Is(err, errNoAgent) {
			status, err = outbox.Inspect(agent.StorePath(cfg.Data, stream))
		}
		if err != nil {
			return err
		}
		all[stream] = status
	}
	if l.JSON {
		return printJSON(s.out, all)
	}
	for _, stream := range agent.Streams() {
		if err := printStatus(s.out, stream, all[stream]); err != nil {
			return err
		}
	}
	return nil
}

func printStatus(w io.Writer, stream string, s outbox.Status) error {
	var b strings.Builder
	state := "in use"
	if !s.Open {
		state = "not in use"
		if s.Err != "" {
			state = s.Err
		}
	}
	fmt.Fprintf(&b, "%s: %s\n", stream, state)
	fmt.Fprintf(&b, "  epoch         %s, sequence %d to %d wait\n", s.Epoch, s.First, s.Last)
	fmt.Fprintf(&b, "  accepted      %d = %d acknowledged + %d pending", s.Accepted, s.AcknowledgedCount, s.Pending)
	for _, reason := range []string{outbox.ReasonSize, outbox.ReasonCorruption} {
		if n := s.Dropped[reason]; n > 0 {
			fmt.Fprintf(&b, " + %d lost (%s)", n, reason)
		}
	}
	fmt.Fprintf(&b, "\n  gaps          %d wait\n  file          %s, of which %s wait\n", s.Gaps, bytesOf(s.FileBytes), bytesOf(s.PendingBytes))
	for _, d := range s.Damages {
		perhaps := ""
		if d.Open {
			perhaps = " and perhaps more"
		}
		fmt.Fprintf(&b, "  set aside     %s: %d records saved, %d%s lost; %s\n", d.File, d.Saved, d.Lost, perhaps, d.Cause)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func bytesOf(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

type outboxExport struct {
	storeOf
}

func (o outboxExport) Run(ctx context.Context, c *commands, s streams) error {
	path, data, err := o.path(c, s)
	if err != nil {
		return err
	}
	err = askAgent(ctx, data, http.MethodGet, "/outbox/"+o.Stream+"/records", func(r io.Reader) error {
		_, err := io.Copy(s.out, r)
		return err
	})
	if errors.Is(err, errNoAgent) {
		_, err = outbox.Export(path, s.out)
	}
	return err
}

type outboxCompact struct {
	Stream string `help:"The stream (${default})." default:"visits" placeholder:"NAME"`
}

func (o outboxCompact) Run(ctx context.Context, c *commands, s streams) error {
	path, data, err := storeOf{Stream: o.Stream}.path(c, s)
	if err != nil {
		return err
	}
	var done agent.Compaction
	err = askFor(ctx, data, http.MethodPost, "/outbox/"+o.Stream+"/compact", &done)
	if errors.Is(err, errNoAgent) {
		done.Before, done.After, err = outbox.CompactFile(ctx, path, o.Stream, slog.New(slog.DiscardHandler))
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s: %s before, %s now\n", o.Stream, bytesOf(done.Before), bytesOf(done.After))
	return err
}

type outboxVerify struct {
	storeOf
	JSON bool `name:"json" help:"Print JSON."`
}

func (o outboxVerify) Run(ctx context.Context, c *commands, s streams) error {
	path, data, err := o.path(c, s)
	if err != nil {
		return err
	}
	var v outbox.Verdict
	err = askFor(ctx, data, http.MethodGet, "/outbox/"+o.Stream+"/verdict", &v)
	if errors.Is(err, errNoAgent) {
		v, err = outbox.Verify(path)
	}
	if err != nil {
		return err
	}
	if o.JSON {
		err = printJSON(s.out, v)
	} else {
		err = printVerdict(s.out, v)
	}
	if err == nil && len(v.Problems) > 0 {
		err = errFinding
	}
	return err
}

func printVerdict(w io.Writer, v outbox.Verdict) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d records, %d gaps and %d marks in %d pages, %d of them free\n", v.Path, v.Records, v.Gaps, v.Marks, v.Pages, v.Free)
	for _, e := range v.Epochs {
		fmt.Fprintf(&b, "  epoch %s: acknowledged to %d of %d\n", e.Epoch, e.Acknowledged, e.Last)
	}
	for _, p := range v.Problems {
		fmt.Fprintf(&b, "  problem: %s\n", p)
	}
	switch {
	case len(v.Problems) == 0:
		b.WriteString("the store is whole\n")
	default:
		b.WriteString("hint: start the agent: it saves what can be read and sets this file aside\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
