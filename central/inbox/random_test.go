package inbox

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/wire"
)

// testRandom lets three halls grow, with gaps and new epochs, over a way that
// loses, doubles and reorders, while the instances that serve them are killed,
// stopped and started: each record has its effect once and in order, and all is
// acknowledged.
func testRandom(t *testing.T, url string) {
	w := newWorld(t, url)
	w.remind = 300 * time.Millisecond
	w.vain = 1000 // however slow this machine is
	db := w.open()
	random := rand.New(rand.NewPCG(7, uint64(len(db.String()))))
	var agents []*agent
	for i := range 3 {
		h := hallOne
		h.ID = fmt.Sprint("hall-", i)
		a := w.agent(h)
		a.add(first, 50)
		agents = append(agents, a)
	}
	stop := make(chan struct{})
	var senders sync.WaitGroup
	for i, a := range agents {
		random := rand.New(rand.NewPCG(uint64(i), 1))
		senders.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(3 * time.Millisecond):
					a.send(random, 0.2)
					if random.IntN(20) == 0 {
						a.say("000001-000000001", wire.Ready)
					}
				}
			}
		})
	}
	instances := []*link{w.begin("a0", write, true)}
	epochs := make([]int, len(agents))
	for step := range 40 {
		i := random.IntN(len(agents))
		a, epoch := agents[i], fmt.Sprintf("%06d-%08x", epochs[i]+1, epochs[i])
		if epochs[i] == 0 {
			epoch = first
		}
		switch random.IntN(6) {
		case 0:
			a.lose(epoch, epoch, 1+random.Uint64N(9), "size")
		case 1:
			old := epoch
			epochs[i]++
			epoch = fmt.Sprintf("%06d-%08x", epochs[i]+1, epochs[i])
			a.lose(epoch, old, random.Uint64N(5), "salvage")
		case 2:
			if len(instances) < 3 {
				instances = append(instances, w.begin(fmt.Sprint("a", step), write, true))
			}
		case 3:
			if len(instances) > 1 {
				l := instances[0]
				instances = instances[1:]
				if random.IntN(3) == 0 {
					l.stop()
				} else {
					l.kill()
				}
			}
		}
		a.add(epoch, 1+random.IntN(60))
		time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
	}
	begin := time.Now()
	for _, a := range agents {
		eventually(t, 20*time.Second, "all acknowledged", a.done)
	}
	t.Logf("settled in %v", time.Since(begin))
	close(stop)
	senders.Wait()
	var asked int
	for _, a := range agents {
		a.check(db)
		asked += a.asked
	}
	t.Logf("%d, %d, %d records, sent again %d times", len(agents[0].items), len(agents[1].items), len(agents[2].items), asked)
}
