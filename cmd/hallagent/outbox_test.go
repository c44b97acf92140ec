package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/sync/outbox"
)

// nowhere is the address of a broker that is not there: records wait.
const nowhere = "mqtt://127.0.0.1:1"

// says runs a command of outbox and wants that exit code and those words, on
// stdout or stderr.
func (w *world) says(code int, args string, words ...string) (out string) {
	w.t.Helper()
	out, errs, got := command(w.t, append(append([]string{"outbox"}, strings.Fields(args)...), "--config", w.file())...)
	if got != code || !contains(out+errs, words...) {
		w.t.Errorf("outbox %s: exit %d, not %d, or not %q in:\n%s%s", args, got, code, words, out, errs)
	}
	return out
}

// store asks for the status of the stream visits.
func (w *world) store() (s outbox.Status, err error) {
	out, _ := w.hallagent("outbox", "ls", "--json")
	all := map[string]outbox.Status{}
	err = json.Unmarshal([]byte(out), &all)
	return all["visits"], err
}

// waiting wants so many records in the store.
func (w *world) waiting(n uint64) {
	w.t.Helper()
	eventually(w.t, 10*time.Second, fmt.Sprint(n, " records wait"), func() error {
		s, err := w.store()
		if err == nil && s.Pending != n {
			err = fmt.Errorf("%d wait", s.Pending)
		}
		return err
	})
}

// exported decodes what export printed.
func exported(t *testing.T, text string) (lines []outbox.Line) {
	t.Helper()
	for d := json.NewDecoder(strings.NewReader(text)); d.More(); {
		var l outbox.Line
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		if l.Epoch == "" || l.Recorded.IsZero() || (l.Gap == nil) == (l.Value == nil) {
			t.Errorf("a line is %+v", l)
		}
		lines = append(lines, l)
	}
	return lines
}

// TestOutboxCommands looks into the store of a hall with and without its agent.
func TestOutboxCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nowhere)
	gate := w.addCounter("D1", true)
	w.configure("")
	path := agent.StorePath(w.data(), "visits")
	for _, c := range []string{"ls", "export", "verify", "compact"} {
		w.says(1, c, "no store at "+path, "no agent runs", "hint: ")
	}
	w.start()
	w.ready()
	eventually(t, 10*time.Second, "the counter is read", w.countersRead)
	for n := range uint64(3) {
		gate.Pass(1, n)
		w.waiting(n + 1)
	}
	running, err := w.store()
	if err != nil || !running.Open || running.Accepted != 3 || running.Last != 3 || running.Epoch == "" {
		t.Errorf("status %+v, %v", running, err)
	}
	w.says(0, "ls", "visits: in use", "epoch         "+running.Epoch+", sequence 1 to 3 wait", "accepted      3 = 0 acknowledged + 3 pending")
	inUse := w.says(0, "export")
	w.says(0, "verify", path+": 3 records, 0 gaps", "the store is whole")
	w.says(0, "compact", "visits: ", " before, ", " now")
	w.says(1, "verify "+path, "another process holds it: process ", "hint: leave out the file")
	w.stop()

	w.says(0, "ls", "visits: not in use", "sequence 1 to 3 wait")
	atRest := w.says(0, "export")
	if lines := exported(t, atRest); atRest != inUse || len(lines) != 3 || lines[2].Sequence != 3 || lines[0].Epoch != running.Epoch {
		t.Errorf("at rest:\n%s\nin use:\n%s", atRest, inUse)
	}
	var v outbox.Verdict
	if err := json.Unmarshal([]byte(w.says(0, "verify --json")), &v); err != nil || v.Records != 3 || len(v.Problems) > 0 || v.Stream != "visits" {
		t.Errorf("verdict %+v, %v", v, err)
	}
	w.says(0, "verify "+path, "the store is whole")
	w.says(0, "compact", " before, ")
	if now, err := w.store(); err != nil || now.Open || now.Pending != 3 || now.Epoch != running.Epoch {
		t.Errorf("after a compaction without an agent: %+v, %v", now, err)
	}
	for _, args := range []string{"ls --stream visits", "verify --stream passes", "compact --stream passes", "export " + path + ".no", "verify --loud", ""} {
		w.says(2, args, "hallagent: ", "hint: ")
	}
	for _, c := range []string{"ls", "export", "compact", "verify"} {
		w.says(0, c+" --help", "Example", "hallagent outbox "+c)
	}
	w.says(0, "--help", "Example", "hallagent outbox ls", "agent's user")
}

// TestOutboxDamage asks after a store that is damaged, before and after the agent
// has set it aside, and after a file that is none.
func TestOutboxDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nowhere)
	gate := w.addCounter("D1", true)
	w.configure("")
	path := agent.StorePath(w.data(), "visits")
	w.start()
	w.ready()
	eventually(t, 10*time.Second, "the counter is read", w.countersRead)
	for n := range uint64(3) {
		gate.Pass(1, 0)
		w.waiting(n + 1)
	}
	w.stop()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(path string, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, bytes.ReplaceAll(whole, []byte(`"in":1`), []byte(`"in":7`))) // all of them, old pages too
	w.says(1, "verify", "problem: ", "record is damaged", "hint: start the agent")
	if out := w.says(1, "export", "is damaged: 0 records could be read", "hint: "); out != "" {
		t.Errorf("exported %s", out)
	}
	headless := bytes.Clone(whole)
	clear(headless[:2*os.Getpagesize()])
	write(path, headless)
	w.says(1, "ls", "it has no head", "hint ", "set aside")
	w.says(1, "compact", "it has no head")
	if lines := exported(t, w.says(1, "export", "is damaged: 3 records could be read")); len(lines) != 3 {
		t.Errorf("%d of 3 records exported", len(lines))
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, headless) {
		t.Errorf("a command changed the store: %v", err)
	}

	w.start()
	w.ready()
	w.says(0, "ls", "visits: in use", "set aside     "+path+".damaged-", "3 records saved")
	w.says(0, "verify", "the store is whole")
	s, err := w.store()
	if err != nil || len(s.Damages) != 1 || s.Begun != outbox.Salvaged {
		t.Fatalf("status %+v, %v", s, err)
	}
	aside := s.Damages[0].File
	var report outbox.Damage
	text, err := os.ReadFile(aside + ".json")
	if err = errors.Join(err, json.Unmarshal(text, &report)); err != nil || report.Saved != 3 || report.Cause == "" || report.File != aside {
		t.Errorf("the report says %+v, %v", report, err)
	}
	w.says(1, "verify "+aside, "problem: ", "it has no head", "hint: ", "outbox export")
	if lines := exported(t, w.says(1, "export "+aside, "3 records could be read")); len(lines) != 3 {
		t.Errorf("%d of 3 records exported", len(lines))
	}
	note := filepath.Join(w.dir, "note")
	write(note, bytes.Repeat([]byte("not a store\n"), 3000))
	w.says(1, "verify "+note, "it is no store", "outbox export "+note)
	foreign := map[string][]byte{"note": nil, "empty": {}, "page": make([]byte, os.Getpagesize()), "pages": bytes.Repeat([]byte{7}, 2*os.Getpagesize())}
	foreign["note"], _ = os.ReadFile(note)
	for name, b := range foreign {
		write(filepath.Join(w.dir, name), b)
		if out := w.says(1, "export "+filepath.Join(w.dir, name), "no store can be found in it", "hint: "); out != "" {
			t.Errorf("exported of %s: %s", name, out)
		}
	}

	// What was found in the store's place is told, too, but is no damage.
	strange := []string{path + ".damaged-20260302T093000", path + ".damaged-20260302T093000-2"}
	write(strange[0], foreign["note"])
	if err := os.Mkdir(strange[1], 0o700); err != nil {
		t.Fatal(err)
	}
	w.says(0, "ls", "set aside     "+strange[0]+": without a report", "set aside     "+strange[1]+": without a report", "set aside     "+aside+": 3 records saved")
	if s, err := w.store(); err != nil || len(s.Damages) != 1 || len(s.Unreported) != 2 {
		t.Errorf("status %+v, %v", s, err)
	}
	now, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0) // in place: the agent has it open
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(bytes.ReplaceAll(now, []byte(`"in":1`), []byte(`"in":7`)), 0)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	w.says(1, "verify", "record is damaged", "hint: nothing is to be done here: the agent saves")
	w.stop()
	w.says(0, "ls", "visits: not in use", "set aside     "+strange[0]+": without a report")
}
