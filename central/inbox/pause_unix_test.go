//go:build unix

package inbox

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/hallagent/hallagent/central/store/postgres"
)

// A process stands still in the midst of a transaction. Another instance takes its
// hall within five seconds; when the first goes on, what it had begun comes to
// nothing, and so does whatever else it tries.
func TestPausedHolder(t *testing.T) {
	t.Parallel()
	url := postgres.Start(t, postgres.Options{}).Database()
	w, a := childWorld(t, url)
	a.items = a.items[:2000]
	db := w.open()
	c := startChild(t, "stand", url)
	c.wait(t, "stands")
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	other := w.begin("other", write, false)
	eventually(t, 10*time.Second, "the hall is taken", func() bool { return other.serves() == 1 })
	took := time.Since(begin)
	t.Logf("taken from a process that stands still after %v", took)
	if took > 5*time.Second {
		t.Error("that is too late")
	}
	before, _ := applied(t, db, hallOne)
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		a.send(random, 0)
	}
	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.in.Write([]byte{'\n'})
	c.wait(t, "goes on")
	c.wait(t, "lost")
	eventually(t, 20*time.Second, "all acknowledged", func() bool { a.send(random, 0); return a.done() })
	a.check(db)
	t.Logf("%d of %d records had their effect before", len(before), len(a.items))
}
