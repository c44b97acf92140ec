package outbox

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func unopened(t *testing.T, path string) *Outbox {
	o := New(Options{Path: path, Stream: "visits", Log: quiet(),
		NewEpoch: newEpoch()})
	o.retry = 10 * time.Millisecond
	run(t, o)
	return o
}

func TestUnusable(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "full.db")
	if err := os.Symlink("/dev/full", full); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.db")
	_, stop := startStop(t, Options{Path: other, Stream: "audit"})
	stop()
	held := filepath.Join(dir, "held.db")
	start(t, Options{Path: held})
	for code, path := range map[string]string{
		"full": full, "wrong_stream": other, "missing": filepath.Join(dir, "no", "visits.db"), "locked": held,
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			o := unopened(t, path)
			s := until(t, o, "reported", func(s Status) bool { return s.Code != "" })
			if s.Open || s.Code != code || s.Hint == "" || !strings.Contains(s.Err, filepath.Base(path)) && code != "wrong_stream" {
				t.Errorf("status %+v", s)
			}
			if _, err := o.Append(t.Context(), nil); !errors.Is(err, ErrUnavailable) {
				t.Errorf("append: %v", err)
			}
			if code == "locked" && !strings.Contains(s.Err, "another process holds it") {
				t.Errorf("error %q", s.Err)
			}
		})
	}
	t.Run("back", func(t *testing.T) { // the folder appears
		path := filepath.Join(dir, "later", "visits.db")
		o := unopened(t, path)
		until(t, o, "reported", func(s Status) bool { return s.Code == "missing" })
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		<-o.Opened()
		add(t, o, "x")
	})
}

// What bbolt says of a file that it could not make larger holds the system's
// error as words only.
func TestCauseInWords(t *testing.T) {
	for number, code := range map[syscall.Errno]string{
		syscall.ENOSPC: "full", syscall.EDQUOT: "full", syscall.EROFS: "readonly", syscall.EIO: "io",
	} {
		if got, hint := cause(errors.New("write visits.db: file resize error: truncate visits.db: " + number.Error())); got != code || hint == "" {
			t.Errorf("%v is %s, %q", number, got, hint)
		}
	}
}

// TestSmallDisk runs itself again in a mount namespace of its own, where it may
// mount a small disk, fill it, free it, and make it read-only.
func TestSmallDisk(t *testing.T) {
	if dir, ok := strings.CutPrefix(os.Getenv(childEnv), "disk:"); ok {
		t.Run("full", func(t *testing.T) { fullDisk(t, dir) })
		t.Run("readonly", func(t *testing.T) { readOnlyDisk(t, dir) })
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^TestSmallDisk$", "-test.v")
	child.Env = append(os.Environ(), childEnv+"=disk:"+t.TempDir())
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		child.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		child.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := child.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || strings.Contains(string(out), "mount: operation not permitted") {
		t.Skip("no right to a mount namespace here")
	}
	if err != nil || !strings.Contains(string(out), "PASS: TestSmallDisk/readonly") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func mount(t *testing.T, dir string) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("mount: %v", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
}

func fullDisk(t *testing.T, dir string) {
	mount(t, dir)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	o := start(t, Options{Path: filepath.Join(dir, "visits.db")})
	value := make([]byte, 20_000)
	accepted := uint64(0)
	for {
		_, err := o.Append(context.Background(), value)
		if err == nil {
			accepted++
			continue
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("append to a full disk: %v", err)
		}
		break
	}
	if s := until(t, o, "full", func(s Status) bool { return !s.Open }); s.Code != "full" || !strings.Contains(s.Hint, "free space") {
		t.Errorf("status %+v", s)
	}
	again := func(what string) {
		for try := 0; ; try++ {
			until(t, o, "open again "+what, func(s Status) bool { return s.Open })
			p, err := o.Append(context.Background(), value)
			if err == nil {
				if accepted++; p.Seq != accepted {
					t.Fatalf("record %d is %v", accepted, p)
				}
				break
			}
			if try == 20 {
				t.Fatalf("%s: %v", what, err)
			}
		}
		balance(t, o)
	}
	// What is delivered makes room, though no byte of the disk is free.
	for n := 0; n < 10; {
		records, err := o.Read(Position{}, 10-n, 1<<20)
		if err == nil && len(records) > 0 {
			err = o.Acknowledge(context.Background(), records[len(records)-1].Position)
		}
		if err == nil {
			n += len(records)
		} else if !errors.Is(err, ErrUnavailable) {
			t.Fatalf("drain a full disk: %v", err)
		}
	}
	again("after the backlog went")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again("after space was freed")
	}
}

func readOnlyDisk(t *testing.T, dir string) {
	mount(t, dir)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	o := unopened(t, filepath.Join(dir, "visits.db"))
	if s := until(t, o, "reported", func(s Status) bool { return s.Code != "" }); s.Code != "readonly" || s.Hint == "" {
		t.Errorf("status %+v", s)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	<-o.Opened()
	add(t, o, "x")
}
