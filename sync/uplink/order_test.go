package uplink

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever happens to sessions and confirmations, and whatever the consumer
// says: one who drops duplicates gets every record once and in order.
func TestOrder(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 3))
				central := seed%2 == 1
				p := start(t, Options{Central: central, MaxBytes: 300})
				up, added, mark := false, 0, 0
				var waiting []delivery
				step := func(op int) {
					switch {
					case op < 3:
						p.add(fmt.Sprint("v", added+1))
						added++
					case op == 3 && !up:
						p.broker.connect()
						up = true
					case op == 4 && up && random.IntN(3) == 0:
						for _, d := range waiting {
							d.done(errors.New("lost"))
						}
						waiting = nil
						p.broker.disconnect()
						up = false
					case op == 5 && central:
						p.up.Acknowledged(epoch, uint64(mark), random.IntN(2) == 0)
					case op == 7:
						time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
					case len(waiting) > 0:
						i := random.IntN(len(waiting))
						waiting[i].done(nil)
						waiting = append(waiting[:i], waiting[i+1:]...)
					}
					for _, d := range p.broker.settle() {
						waiting = append(waiting, d)
						for _, v := range d.payload.Values {
							var seq int
							var value string
							fmt.Sscanf(v, "%d=%s", &seq, &value)
							if seq > mark+1 || value != fmt.Sprint("v", seq) {
								t.Fatalf("%s after %d", v, mark)
							}
							mark = max(mark, seq)
						}
					}
				}
				for range 400 {
					step(random.IntN(10))
				}
				if !up {
					step(3)
				}
				for range 2000 {
					step(9)
				}
				if mark != added {
					t.Errorf("%d of %d records came", mark, added)
				}
				if central {
					p.up.Acknowledged(epoch, uint64(mark), false)
				}
				p.acknowledged(uint64(added))
			})
		})
	}
}
