package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
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
	return "A running agent is asked; without one the files are read themselves. Run them as the agent's user.\n\nExample:\n  hallagent outbox ls"
}

// storeOf names the store a command is about: one of the configured agent, or a
// file.
type storeOf struct {
	Stream string `help:"The stream (${default})." default:"visits" enum:"${streams}" placeholder:"NAME"`
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

// stumble adds to an error what the person at the keyboard can do.
func stumble(err error, path string, named bool) error {
	hint := ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no store at %s, and no agent runs there\nhint: the agent makes it when it first starts; --config names another configuration", path)
	case errors.Is(err, outbox.ErrNotRegular):
		hint = "take a store's file, or one that was set aside"
	case errors.Is(err, fs.ErrPermission):
		hint = "run this command as the agent's user"
	case errors.Is(err, outbox.ErrLocked) && named:
		hint = "leave out the file: then the agent that has it open is asked"
	case errors.Is(err, outbox.ErrLocked):
		hint = "another outbox command is at work, or an agent that starts: try again"
	default:
		return err
	}
	return fmt.Errorf("%w\nhint: %s", err, hint)
}

type outboxLs struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (outboxLs) Help() string {
	return "The exit code is 1 if a store cannot be used. With --json: an outbox.Status for each stream, by name.\n\nExample:\n  hallagent outbox ls --json"
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
			path := agent.StorePath(cfg.Data, stream)
			status, err = outbox.Inspect(path)
			err = stumble(err, path, false)
		}
		if err != nil {
			return err
		}
		all[stream] = status
	}
	if l.JSON {
		err = printJSON(s.out, all)
	} else {
		err = printAll(s.out, all)
	}
	for _, status := range all {
		if err == nil && status.Code != "" {
			err = errFinding
		}
	}
	return err
}

func printAll(w io.Writer, all map[string]outbox.Status) error {
	for _, stream := range agent.Streams() {
		if err := printStatus(w, stream, all[stream]); err != nil {
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
	if s.Hint != "" {
		fmt.Fprintf(&b, "  hint          %s\n", s.Hint)
	}
	waits := "nothing waits"
	switch {
	case s.First <= s.Last:
		waits = fmt.Sprintf("sequence %d to %d wait", s.First, s.Last)
	case s.Pending+s.Gaps > 0: // of an earlier one
		waits = "nothing of it waits"
	}
	if s.Epoch != "" {
		fmt.Fprintf(&b, "  epoch         %s, %s\n", s.Epoch, waits)
	}
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
	for _, name := range s.Unreported {
		fmt.Fprintf(&b, "  set aside     %s: without a report, as something that was found in the store's place\n", name)
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

func (outboxExport) Help() string {
	return "Oldest first; each line is an outbox.Line. Of a damaged file it prints what can be read.\n\nExamples:\n  hallagent outbox export > visits.jsonl\n" +
		"  hallagent outbox export /var/lib/hallagent/visits.db.damaged-20260302T093000"
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
		return exportFile(path, o.File != "", s)
	}
	return err
}

// exportFile reads a file that nobody has open, and says so if that was not all
// that had been in it.
func exportFile(path string, named bool, s streams) error {
	n, err := outbox.Export(path, s.out)
	if errors.Is(err, outbox.ErrNoStore) {
		return fmt.Errorf("%w\nhint: it is another file, or nothing is left of it", err)
	}
	if err != nil {
		return stumble(err, path, named)
	}
	v, err := outbox.Verify(path)
	if err != nil {
		return stumble(err, path, named)
	}
	if len(v.Problems) > 0 {
		return fmt.Errorf("%s is damaged: %d records could be read\nhint: hallagent outbox verify %s tells more", path, n, path)
	}
	return nil
}

type outboxCompact struct {
	Stream string `help:"The stream (${default})." default:"visits" enum:"${streams}" placeholder:"NAME"`
}

func (outboxCompact) Help() string {
	return "The store does so by itself when little of a large file is in use.\n\nExample:\n  hallagent outbox compact"
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
		err = stumble(err, path, false)
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

func (outboxVerify) Help() string {
	return "Nothing is changed. The exit code is 1 if something is wrong. With --json: an outbox.Verdict.\n\nExamples:\n  hallagent outbox verify\n" +
		"  hallagent outbox verify /var/lib/hallagent/visits.db.damaged-20260302T093000"
}

func (o outboxVerify) Run(ctx context.Context, c *commands, s streams) error {
	path, data, err := o.path(c, s)
	if err != nil {
		return err
	}
	var v outbox.Verdict
	running := true
	err = askFor(ctx, data, http.MethodGet, "/outbox/"+o.Stream+"/verdict", &v)
	if errors.Is(err, errNoAgent) {
		running = false
		v, err = outbox.Verify(path)
		err = stumble(err, path, o.File != "")
	}
	if err != nil {
		return err
	}
	if o.JSON {
		err = printJSON(s.out, v)
	} else {
		err = printVerdict(s.out, v, hintOf(v, o.File != "", running))
	}
	if err == nil && len(v.Problems) > 0 {
		err = errFinding
	}
	return err
}

// hintOf tells what to do about problems: of a file that was named, or of the
// agent's own.
func hintOf(v outbox.Verdict, named, running bool) string {
	switch {
	case running:
		return "nothing is to be done here: the agent saves what can be read and tells the centre what is lost when it comes to it; check the disk"
	case named && v.Stream == "":
		return "it is no store, or its beginning is gone: hallagent outbox export " + v.Path + " prints what can be read, if anything"
	case named:
		return "hallagent outbox export " + v.Path + " prints what can be read"
	}
	return "start the agent: it saves what can be read and tells the centre what is lost; check the disk"
}

func printVerdict(w io.Writer, v outbox.Verdict, hint string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d records, %d gaps and %d marks in %d pages, %d of them free\n", v.Path, v.Records, v.Gaps, v.Marks, v.Pages, v.Free)
	for _, e := range v.Epochs {
		fmt.Fprintf(&b, "  epoch %s: acknowledged to %d of %d\n", e.Epoch, e.Acknowledged, e.Last)
	}
	for _, p := range v.Problems {
		fmt.Fprintf(&b, "  problem: %s\n", p)
	}
	if len(v.Problems) == 0 {
		b.WriteString("the store is whole\n")
	} else {
		b.WriteString("hint: " + hint + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
