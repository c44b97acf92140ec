package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hallagent/hallagent/device/sim"
)

var samTranscript = filepath.Join("..", "..", "idcard", "testdata", "sam.transcript")

// startPlay starts play and gives the command once its line is there.
func startPlay(t *testing.T, args ...string) (p *simulator, where string) {
	t.Helper()
	p = startCommand(t, append([]string{"play"}, args...)...)
	said := p.says("playing ")
	return p, said[strings.LastIndex(said, " ")+1:]
}

// ends waits until a play ends by itself, with that exit code.
func (s *simulator) ends(code int) {
	s.t.Helper()
	var exit *exec.ExitError
	err := s.wait()
	if code == 0 && err != nil || code != 0 && (!errors.As(err, &exit) || exit.ExitCode() != code) {
		s.t.Errorf("ends with %v, want %d", err, code)
	}
}

// TestPlay reads the card of a transcript at the command line, on a terminal and
// over TCP; the reader asks as often as it likes.
func TestPlay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tty := filepath.Join(dir, "reader")
	for _, tt := range []struct {
		name  string
		where []string
		line  func(string) string
	}{
		{"terminal", []string{"--pty", tty}, func(s string) string { return "serial://" + s + "?baud=115200" }},
		{"TCP", []string{"--tcp", "127.0.0.1:0", "--no-pace"}, func(s string) string { return "tcp://" + s }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			player, where := startPlay(t, append([]string{samTranscript, "--repeat"}, tt.where...)...)
			for range 2 { // a second one greets in the midst of the transcript
				out, errs, code := command(t, "read", "--show", "--line", tt.line(where))
				if code != 0 || !contains(out, "439999197506150040") {
					t.Errorf("read of a played reader exits with %d\n%s%s", code, out, errs)
				}
			}
			player.process.Signal(os.Interrupt)
			player.ends(0)
		})
	}
}

// TestPlayRecorded plays a masked recording: the agent's reader finds valid
// answers and a card of asterisks.
func TestPlayRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "mqtt://127.0.0.1:1")
	reader, pty := w.addReader("05", sim.ReaderOptions{Baud: 115200})
	card, err := sim.MadeUp(3).Card()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.dir, "recording")
	recorded(t, reader, card, file, "--line", "serial://"+pty.Name+"?baud=115200", "--kind", "sam")
	tty := filepath.Join(w.dir, "played")
	startPlay(t, file, "--pty", tty)
	again := filepath.Join(w.dir, "again")
	recorded(t, nil, sim.Card{}, again, "--line", "serial://"+tty+"?baud=115200", "--kind", "sam")
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(again)
	if err != nil {
		t.Fatal(err)
	}
	answer := regexp.MustCompile(`(?m)^< \S+ (AA AA AA 96 69 05 08 .*)$`)
	if a, b := answer.FindSubmatch(first), answer.FindSubmatch(second); a == nil || b == nil || string(a[1]) != string(b[1]) {
		t.Errorf("what was played is not what was recorded")
	}
}

func TestPlayRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{filepath.Join(dir, "none"), "--tcp", "127.0.0.1:0"}, 1, "none"},
		{[]string{write("bad", "> 0 AA\n? 1 AA\n"), "--tcp", "127.0.0.1:0"}, 1, "line 2"},
		{[]string{write("empty", "# nothing\n"), "--tcp", "127.0.0.1:0"}, 1, "no request"},
		{[]string{samTranscript, "--tcp", "nonesuch:x:y"}, 1, "nonesuch"},
		{[]string{samTranscript, "--pty", write("file", "")}, 1, "not a symbolic link"},
		{[]string{samTranscript}, 2, "--pty"},
		{[]string{samTranscript, "--pty", "x", "--tcp", "y"}, 2, "--pty"},
		{[]string{"--tcp", "127.0.0.1:0"}, 2, "<file>"},
	} {
		out, errs, code := command(t, append([]string{"play"}, tt.args...)...)
		if code != tt.code || out != "" || !contains(errs, tt.want) {
			t.Errorf("%q exits with %d\n%s%s", tt.args, code, out, errs)
		}
	}
}

// A strict play ends where the far end asks otherwise, with the line; a tolerant
// one tells it and goes on.
func TestPlayTellsMismatch(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "transcript")
	text := "# a vendor's tool\n> 0 AA AA AA 96 69 00 03 10 FF EC\n< 0.01 AA AA AA 96 69 00 04 00 00 90 94\n" +
		"> 0.1 AA AA AA 96 69 00 03 11 FF ED\n< 0.11 AA AA AA 96 69 00 04 00 00 60 64\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, strict := range []bool{true, false} {
		args, end := []string{file, "--tcp", "127.0.0.1:0"}, 0
		if strict {
			args, end = append(args, "--strict"), 1
		}
		player, where := startPlay(t, args...)
		_, errs, code := command(t, "read", "--within", "2s", "--line", "tcp://"+where)
		if code != 1 || strict == contains(errs, "self-test") {
			t.Errorf("read exits with %d\n%s", code, errs)
		}
		player.ends(end)
		if said := player.errs.String(); !contains(said, "transcript line 2: sent AA AA AA 96 69 00 03 11", "want AA AA AA 96 69 00 03 10 FF EC") {
			t.Errorf("play says\n%s", said)
		}
	}
}
