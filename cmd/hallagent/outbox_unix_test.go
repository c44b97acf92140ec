//go:build unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
)

// TestOutboxNoFile asks after what is no regular file; a pipe nobody writes to
// would be waited for.
func TestOutboxNoFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nowhere)
	w.configure("")
	pipe, store := filepath.Join(w.dir, "pipe"), agent.StorePath(w.data(), "visits")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Mkdir(w.data(), 0o700), syscall.Mkfifo(store, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"verify " + pipe, "export " + pipe, "verify /dev/null", "ls", "verify", "export", "compact"} {
		w.says(1, args, "it is no regular file", "hint: take a store's file")
	}
}

// TestOutboxOtherUser asks as another user than the agent's.
func TestOutboxOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may be another user")
	}
	t.Parallel()
	w := newWorld(t, nowhere)
	w.configure("")
	w.start()
	w.ready()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	open := func(mode os.FileMode, paths ...string) {
		for _, p := range paths {
			if err := os.Chmod(p, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	open(0o755, filepath.Dir(path), w.dir)
	open(0o644, w.file())
	refused := func(how string, args ...string) {
		t.Helper()
		cmd := exec.Command(path, append(append([]string{"outbox"}, args...), "--config", w.file())...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "permission denied") ||
			!strings.Contains(string(out), "hint: run this command as the agent's user") {
			t.Errorf("%s, %v: %v\n%s", how, args, err, out)
		}
	}
	all := func(how string) {
		t.Helper()
		for _, c := range []string{"ls", "export", "verify", "compact"} {
			refused(how, c)
		}
	}
	all("the folder is private")
	open(0o755, w.data())
	all("the socket is private")
	w.stop()
	if err := os.Remove(agent.SocketPath(w.data())); err != nil {
		t.Fatal(err)
	}
	all("the file is private")
	refused("named", "verify", agent.StorePath(w.data(), "visits"))
}
