package inbox

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/central/store/postgres"
	"github.com/hallagent/hallagent/sync/wire"
)

// Whatever instances come and go: two looks after a change every hall is served,
// each instance has its fair share, and from then on nothing moves.
func TestShare(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		leases := make([]lease, random.IntN(40))
		for i := range leases {
			leases[i].hall.ID, leases[i].free = fmt.Sprint(i), true
		}
		instances := []string{"a"}
		for change := range 10 {
			if random.IntN(2) == 0 || len(instances) == 1 {
				instances = append(instances, fmt.Sprintf("%c%d", 'a'+random.IntN(26), change))
			} else {
				gone := random.IntN(len(instances))
				for i := range leases {
					if leases[i].holder == instances[gone] {
						leases[i].holder, leases[i].free = "", true
					}
				}
				instances = slices.Delete(instances, gone, gone+1)
			}
			moved := 0
			for look := range 4 {
				moved = 0
				for _, me := range instances {
					p := share(me, instances, leases)
					for _, l := range p.take {
						i := slices.IndexFunc(leases, func(x lease) bool { return x.hall == l.hall })
						leases[i].holder, leases[i].free = me, false
						moved++
					}
					for _, l := range p.release {
						i := slices.IndexFunc(leases, func(x lease) bool { return x.hall == l.hall })
						leases[i].holder, leases[i].free = "", true
						moved++
					}
				}
				if look >= 2 && moved > 0 {
					t.Fatalf("%d halls move in look %d", moved, look)
				}
			}
			for _, me := range instances {
				n := 0
				for _, l := range leases {
					if l.holder == me {
						n++
					}
				}
				if fair := len(leases) / len(instances); n < fair || n > fair+1 {
					t.Fatalf("%d halls of %d for one of %d instances", n, len(leases), len(instances))
				}
			}
		}
	}
}

// pump sends for agents until stop is closed, and appends to them up to n records.
func pump(agents []*agent, n int, stop <-chan struct{}) *sync.WaitGroup {
	wg := &sync.WaitGroup{}
	for i, a := range agents {
		random := rand.New(rand.NewPCG(uint64(i), 1))
		wg.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
				}
				a.mu.Lock()
				grown := len(a.items)
				a.mu.Unlock()
				if grown < n {
					a.add(first, 1)
				}
				a.send(random, 0)
				if round%10 == 0 {
					a.say("000001-000000001", wire.Ready)
				}
			}
		})
	}
	return wg
}

func (w *world) halls(n int) (agents []*agent) {
	for i := range n {
		a := w.agent(wire.Hall{Area: "371003", ID: fmt.Sprintf("hall-%02d", i)})
		a.add(first, 1)
		agents = append(agents, a)
	}
	return agents
}

// Two, then three instances share twelve halls; one is killed, one stopped.
func TestSharing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres.Start(t, postgres.Options{}).Database())
	db := w.open()
	agents := w.halls(12)
	stop := make(chan struct{})
	senders := pump(agents, 1000, stop)
	a, b := w.begin("a", write, false), w.begin("b", write, false)
	shared := func(n int, instances ...*link) func() bool {
		return func() bool {
			for _, l := range instances {
				if l.serves() != n {
					return false
				}
			}
			return true
		}
	}
	begin := time.Now()
	eventually(t, 15*time.Second, "six halls each", shared(6, a, b))
	t.Logf("two instances share after %v", time.Since(begin))
	begin = time.Now()
	c := w.begin("c", write, false)
	eventually(t, 15*time.Second, "four halls each", shared(4, a, b, c))
	t.Logf("three instances share after %v", time.Since(begin))

	begin = time.Now()
	a.kill()
	eventually(t, 15*time.Second, "six halls each again", shared(6, b, c))
	took := time.Since(begin)
	t.Logf("the halls of a killed instance are served after %v", took)
	if took > 5*time.Second {
		t.Error("that is too late")
	}
	begin = time.Now()
	b.stop()
	eventually(t, 15*time.Second, "twelve halls", shared(12, c))
	took = time.Since(begin)
	t.Logf("the halls of a stopped instance are served after %v", took)
	if took > 2*time.Second {
		t.Error("that is too late")
	}
	var counted []int
	for _, a := range agents {
		a.mu.Lock()
		counted = append(counted, len(a.items))
		a.mu.Unlock()
	}
	eventually(t, 30*time.Second, "records are added", func() bool {
		agents[11].mu.Lock()
		defer agents[11].mu.Unlock()
		return len(agents[11].items) > counted[11]+20
	})
	close(stop)
	senders.Wait()
	random := rand.New(rand.NewPCG(1, 1))
	for i, a := range agents {
		eventually(t, 30*time.Second, "all acknowledged", func() bool { a.send(random, 0); return a.done() })
		a.check(db)
		if len(a.items) <= counted[i] {
			t.Error("nothing came after the last change")
		}
	}
}

// The database dies again and again in mid-stream.
func TestTortureDatabaseKilled(t *testing.T) {
	t.Parallel()
	s := postgres.Start(t, postgres.Options{Durable: pick(0, 1) == 1})
	w := newWorld(t, s.Database())
	db := w.open()
	agents := w.halls(3)
	stop := make(chan struct{})
	senders := pump(agents, 100_000, stop)
	w.begin("a", write, true)
	rounds := pick(4, 50)
	var took []time.Duration
	acked := func() int {
		agents[0].mu.Lock()
		defer agents[0].mu.Unlock()
		return agents[0].acked
	}
	for range rounds {
		before := acked()
		eventually(t, 20*time.Second, "the stream goes on", func() bool { return acked() > before+3 })
		s.Kill()
		s.Restart()
		begin, up := time.Now(), acked()
		eventually(t, 20*time.Second, "the stream goes on", func() bool { return acked() > up })
		took = append(took, time.Since(begin))
	}
	close(stop)
	senders.Wait()
	random := rand.New(rand.NewPCG(1, 1))
	for _, a := range agents {
		eventually(t, 30*time.Second, "all acknowledged", func() bool { a.send(random, 0); return a.done() })
		a.check(db)
	}
	slices.Sort(took)
	t.Logf("the database died %d times; %d records; on again after %v in the median, %v at the longest",
		rounds, len(agents[0].items)*3, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
}
