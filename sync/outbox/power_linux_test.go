package outbox

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/outbox/disk"
)

// TestPowerCut cuts the power of a disk at random moments of a store's life, also
// in the midst of compactions.
func TestPowerCut(t *testing.T) { powerCuts(t, 25) }

func TestTorturePowerCut(t *testing.T) {
	if os.Getenv("HALLAGENT_TORTURE") == "" {
		t.Skip("in make torture")
	}
	powerCuts(t, 300)
}

func powerCuts(t *testing.T, cuts int) {
	d, dir := disk.Mount(t, 0)
	l, stop := work(t, dir)
	random := rand.New(rand.NewPCG(11, 13))
	how := map[Beginning]int{}
	l.until(t, 30*time.Second, "started", func(accepted, _ uint64) bool { return accepted > 0 })
	_, _, early, _ := l.now() // before the store was open
	for i := range cuts {
		before, _, _, _ := l.now()
		more := uint64(random.IntN(40))
		l.until(t, 30*time.Second, "going on", func(accepted, _ uint64) bool { return accepted > before+more })
		accepted, acknowledged, _, _ := l.now() // before the cut: at least that much must be there
		how[inspect(t, fmt.Sprintf("cut %d", i), lay(t, d.Cut(random)), accepted, acknowledged)]++
	}
	stop()
	accepted, acknowledged, refused, why := l.now()
	t.Logf("%d cuts, %d accepted, %d acknowledged, %d refused; stores that began: %v", cuts, accepted, acknowledged, refused, how)
	if refused > early {
		t.Errorf("%d records were refused: %s", refused, why)
	}
}

// lay puts an image of a disk into a folder.
func lay(t *testing.T, image map[string][]byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for file, b := range image {
		if err := os.WriteFile(filepath.Join(dir, file), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestDiskFaults fills a disk, makes it fail and makes it read-only, under a
// store that is in use; each time it comes back by itself, and nothing that was
// accepted is lost.
func TestDiskFaults(t *testing.T) {
	t.Parallel() // it mostly waits
	d, dir := disk.Mount(t, 64<<20)
	l, stop := work(t, dir)
	running := func(what string, limit time.Duration) time.Duration {
		before, _, _, _ := l.now()
		began := time.Now()
		l.until(t, limit, what, func(accepted, _ uint64) bool { return accepted > before+5 })
		return time.Since(began)
	}
	refusing := func(what string) {
		_, _, before, _ := l.now()
		l.until(t, 30*time.Second, what, func(_, refused uint64) bool { return refused > before+3 })
	}
	running("started", 10*time.Second)
	for _, f := range []struct {
		what      string
		fail, end func()
	}{
		{"full", func() { d.Fill(16 << 10) }, d.Free},
		{"failing", func() { d.Fail(syscall.EIO) }, func() { d.Fail(0) }},
		{"read-only", func() { d.Fail(syscall.EROFS) }, func() { d.Fail(0) }},
	} {
		f.fail()
		refusing(f.what)
		_, _, refused, why := l.now()
		f.end()
		t.Logf("%s: %d refused so far (%s); taking records again after %v", f.what, refused, why, running("back", 30*time.Second))
	}
	stop()
	accepted, acknowledged, _, _ := l.now()
	if how := inspect(t, "at the end", lay(t, d.Files()), accepted, acknowledged); how != "" {
		t.Errorf("the store is %s", how)
	}
}

// TestDiskFromTheStart starts on a disk that takes nothing, and goes on by itself
// when it does.
func TestDiskFromTheStart(t *testing.T) {
	t.Parallel()
	d, dir := disk.Mount(t, 0)
	d.Fail(syscall.EROFS)
	l, _ := work(t, dir)
	l.until(t, 10*time.Second, "refusing", func(_, refused uint64) bool { return refused > 3 })
	if accepted, _, _, why := l.now(); accepted > 0 || why != ErrUnavailable.Error() {
		t.Errorf("%d accepted, refused because of %q", accepted, why)
	}
	began := time.Now()
	d.Fail(0)
	l.until(t, 30*time.Second, "back", func(accepted, _ uint64) bool { return accepted > 3 })
	t.Logf("taking records after %v", time.Since(began))
}
