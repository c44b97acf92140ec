//go:build linux && (amd64 || arm64 || loong64)

package photo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nobodyLeft waits until no process of the test's decoder is left.
func nobodyLeft(t *testing.T) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		left = nil
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range lines {
			if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), built+"/decoder") {
				left = append(left, strings.ReplaceAll(string(text), "\x00", " "))
			}
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("processes are left: %q", left)
}

// TestConfined lets decoders try what they must not be able to do.
func TestConfined(t *testing.T) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "kept")
	if err := os.WriteFile(kept, []byte("as it was"), 0o666); err != nil {
		t.Fatal(err)
	}
	victim := exec.Command("sleep", "60")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer victim.Wait()
	defer victim.Process.Kill()
	home, err := os.UserHomeDir()
	if err != nil {
		home = dir
	}
	call := func(n int) string { return fmt.Sprint(n) }
	for _, c := range []struct {
		what, argument string
		want           syscall.Errno
	}{
		{"socket", "", unix.EPERM},
		{"unix", "", unix.EPERM},
		{"call", call(unix.SYS_CONNECT), unix.EPERM},
		{"call", call(unix.SYS_BIND), unix.EPERM},
		{"call", call(unix.SYS_SENDTO), unix.EPERM},
		{"call", call(unix.SYS_IO_URING_SETUP), unix.EPERM},
		{"call", call(unix.SYS_PTRACE), unix.EPERM},
		{"call", call(unix.SYS_PROCESS_VM_READV), unix.EPERM},
		{"call", call(unix.SYS_MOUNT), unix.EPERM},
		{"call", call(unix.SYS_UNSHARE), unix.EPERM},
		{"call", call(unix.SYS_SETNS), unix.EPERM},
		{"call", call(unix.SYS_BPF), unix.EPERM},
		{"call", call(unix.SYS_KEYCTL), unix.EPERM},
		{"call", call(unix.SYS_MQ_OPEN), unix.EPERM},
		{"call", call(unix.SYS_CLONE3), unix.ENOSYS},
		{"call", call(unix.SYS_OPENAT2), unix.ENOSYS},
		{"call", call(newest + 1), unix.ENOSYS},
		{"call", call(0x40000000 + unix.SYS_SOCKET), unix.ENOSYS}, // x32
		{"openat2", kept, unix.ENOSYS},
		{"create", "/tmp/hallagent-decoder-was-here", unix.EPERM},
		{"create", filepath.Join(home, "hallagent-decoder-was-here"), unix.EPERM},
		{"create", filepath.Join(filepath.Dir(must(program())), "new"), unix.EPERM},
		{"append", kept, unix.EPERM},
		{"append", "/dev/null", unix.EPERM},
		{"remove", kept, unix.EPERM},
		{"rename", kept, unix.EPERM},
		{"chmod", kept, unix.EPERM},
		{"mkdir", filepath.Join(dir, "new"), unix.EPERM},
		{"kill", fmt.Sprint(os.Getpid()), unix.EPERM},
		{"kill", fmt.Sprint(victim.Process.Pid), unix.EPERM},
		{"killall", "", unix.EPERM},
		{"notify", fmt.Sprint(victim.Process.Pid), unix.EPERM},
		{"pin", fmt.Sprint(victim.Process.Pid), unix.EPERM},
		{"call", fmt.Sprint(unix.SYS_MSGSND), unix.EPERM},
		{"call", fmt.Sprint(unix.SYS_SEMOP), unix.EPERM},
		{"call", fmt.Sprint(unix.SYS_SHMCTL), unix.EPERM},
		{"setsid", "", unix.EPERM},
		{"memory", "", unix.ENOMEM},
		{"read", "/proc/self/status", 0},
		{"read", "/usr/bin/env", 0},
		{"read", "/etc/passwd", unix.EACCES},
		{"read", kept, unix.EACCES},
		{"read", fmt.Sprintf("/proc/%d/environ", os.Getpid()), unix.EACCES},
	} {
		if c.want == unix.EACCES && sandbox() != strongest {
			t.Logf("%s %s is skipped: this kernel has no Landlock", c.what, c.argument)
			continue
		}
		picture, err := decoder(t, 0, c.what, c.argument).PNG(t.Context(), block(0))
		if err != nil {
			t.Errorf("%s %s: %v", c.what, c.argument, err)
			continue
		}
		if got := syscall.Errno(red(t, picture)); got != c.want {
			t.Errorf("%s %s gives %d (%v), want %v", c.what, c.argument, got, got, c.want)
		}
	}
	if text, err := os.ReadFile(kept); err != nil || string(text) != "as it was" {
		t.Errorf("the file is %q, %v", text, err)
	}
	if err := victim.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the other process is gone: %v", err)
	}
	nobodyLeft(t)
}

func must(path string, err error) string {
	if err != nil {
		panic(err)
	}
	return path
}

// TestSurroundings lets a decoder look around, with a descriptor open in the
// agent that anyone would inherit.
func TestSurroundings(t *testing.T) {
	fd, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0) // without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := decoder(t, 0, "surroundings").PNG(t.Context(), block(0)); err != nil {
		t.Error(err)
	}
}

// TestForked: a decoder may leave children behind; nobody else does.
func TestForked(t *testing.T) {
	if _, err := decoder(t, 0, "fork").PNG(t.Context(), block(0)); err != nil {
		t.Error(err)
	}
	nobodyLeft(t)
}

// TestKilled kills the agent while a decoder runs: it goes, too.
func TestKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(self, asAgent, must(program()), "hang")
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer agent.Wait()
	defer agent.Process.Kill()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		if slices.ContainsFunc(names, func(name string) bool {
			text, err := os.ReadFile(name)
			return err == nil && strings.HasPrefix(string(text), built+"/decoder\x00hang")
		}) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no decoder runs")
		}
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	nobodyLeft(t)
}

// TestShell runs a script, as sites write around a vendor's program.
func TestShell(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "decode")
	text := "#!/bin/sh\nset -e\nhead -c 1024 | wc -c | grep -q 1024\ncat \"$(dirname \"$0\")/picture.bmp\"\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "picture.bmp"), bmpOf(102, 126, 24, 308*126), 0o644); err != nil {
		t.Fatal(err)
	}
	d := New(Options{Command: []string{script}})
	if picture, err := d.PNG(t.Context(), block(0)); err != nil || red(t, picture) != 0 {
		t.Errorf("gives %d bytes, %v", len(picture), err)
	}
}

// TestOtherProcessor calls in the manner of i386, which has its own numbers: the
// process is ended.
func TestOtherProcessor(t *testing.T) {
	if auditArch != unix.AUDIT_ARCH_X86_64 {
		t.Skip("only amd64 has two sets of system calls here")
	}
	if _, err := exec.LookPath("gcc"); err != nil && os.Getenv("CI") == "true" {
		t.Fatal("gcc is not installed")
	} else if err != nil {
		t.Skip("gcc is not installed")
	}
	dir := t.TempDir()
	source, path := filepath.Join(dir, "i386.c"), filepath.Join(dir, "i386")
	// 20 is getpid of i386.
	text := "int main(void) { int n = 20; __asm__ volatile(\"int $0x80\" : \"+a\"(n)); return 0; }\n"
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-o", path, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, err := New(Options{Command: []string{path}}).PNG(t.Context(), block(0))
	if codeOf(err) != "photo_decoder_failed" || !strings.Contains(err.Error(), "bad system call") &&
		!strings.Contains(err.Error(), "segmentation fault") { // a kernel that has no such calls at all
		t.Errorf("gives %v", err)
	}
}

// TestFilterIsWhole: a jump of the filter has one byte, and the kernel takes
// 4096 instructions.
func TestFilterIsWhole(t *testing.T) {
	p := filter(1)
	if len(p) > 4096 {
		t.Errorf("%d instructions", len(p))
	}
	for _, j := range judgedCalls(1) {
		if n := len(j.only) + len(j.never); n > 100 || j.mask == 0 && n == 0 {
			t.Errorf("call %d is judged by %d values", j.call, n)
		}
	}
}
