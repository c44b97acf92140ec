package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing/synctest"
)

// broker is a publisher in memory: sessions are opened and cut by the test, and
// what is published lies on the table until the test confirms it.
type broker struct {
	mu      sync.Mutex
	ctx     context.Context
	cut     context.CancelFunc
	up      chan struct{} // closed while a session is up
	table   []delivery
	refused error // what Publish answers at once, if set
	auto    func(delivery)
}

type delivery struct {
	session context.Context
	payload payload
	bytes   int
	done    func(error)
}

type payload struct {
	Replayed bool     `json:"replayed"`
	Values   []string `json:"values"` // "7=text", or "7=gap 3-7"
}

func newBroker() *broker { return &broker{up: make(chan struct{})} }

func (b *broker) Session(ctx context.Context) (context.Context, error) {
	b.mu.Lock()
	up := b.up
	b.mu.Unlock()
	select {
	case <-up:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ctx, nil
}

func (b *broker) Publish(session context.Context, topic string, retain bool, bytes []byte, done func(error)) {
	d := delivery{session: session, bytes: len(bytes), done: done}
	if err := json.Unmarshal(bytes, &d.payload); err != nil || topic != "hall/visits" || retain {
		panic(fmt.Sprint(topic, retain, err))
	}
	b.mu.Lock()
	refused, auto := b.refused, b.auto
	if refused == nil && auto == nil {
		b.table = append(b.table, d)
	}
	b.mu.Unlock()
	if refused != nil {
		done(refused)
	} else if auto != nil {
		auto(d)
	}
}

func (b *broker) connect() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ctx, b.cut = context.WithCancel(context.Background())
	close(b.up)
}

// disconnect cuts the session; what lies on the table is lost.
func (b *broker) disconnect() {
	b.mu.Lock()
	b.cut()
	b.up = make(chan struct{})
	table := b.table
	b.table = nil
	b.mu.Unlock()
	for _, d := range table {
		d.done(errors.New("connection lost"))
	}
}

// Reconnect makes a new session at once.
func (b *broker) Reconnect(session context.Context, why string) {
	b.disconnect()
	b.connect()
}

// taken gives what was published since and leaves it unconfirmed.
func (b *broker) taken() []delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	table := b.table
	b.table = nil
	return table
}

// settle waits and gives what was published.
func (b *broker) settle() []delivery {
	synctest.Wait()
	return b.taken()
}

// answer lets f see and confirm what is published from now on.
func (b *broker) answer(f func(delivery)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.auto = f
}
