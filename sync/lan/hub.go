package lan

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	heartbeat  = 15 * time.Second // so that both ends notice a dead connection
	writeLimit = 10 * time.Second // for one event to be taken by the client's side
	queueLen   = 32               // events a client may be behind before it is dropped
)

// event is one Server-Sent Event, ready to be written.
func event(name string, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("lan: encode %s event: %v", name, err)) // plain structs of our own
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, data)
}

// client is one open stream.
type client struct {
	queue chan []byte
	gone  chan struct{} // closed when the client must go
	once  sync.Once
}

func newClient() *client {
	return &client{queue: make(chan []byte, queueLen), gone: make(chan struct{})}
}

// send queues an event and says whether there was room. A client without room
// does not read: it is dropped, and will connect again if it still lives. One
// that was dropped takes nothing any more, even if its queue drains.
func (c *client) send(e []byte) bool {
	select {
	case <-c.gone:
		return false
	default:
	}
	select {
	case c.queue <- e:
		return true
	default:
		c.drop()
		return false
	}
}

func (c *client) drop() { c.once.Do(func() { close(c.gone) }) }

// serve writes events until the client goes, is dropped, or the server stops.
func (c *client) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	rc := http.NewResponseController(w)
	write := func(e []byte) bool {
		// In place of the server's write timeout, which would end every stream.
		if rc.SetWriteDeadline(time.Now().Add(writeLimit)) != nil {
			return false
		}
		if _, err := w.Write(e); err != nil {
			return false
		}
		return rc.Flush() == nil
	}
	rc.SetReadDeadline(time.Time{})
	if !write([]byte("retry: 2000\n\n")) {
		return
	}
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case e := <-c.queue:
			if !write(e) {
				return
			}
		case <-tick.C:
			if !write([]byte(": heartbeat\n\n")) {
				return
			}
		case <-c.gone:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// hub sends the same events to all its clients.
type hub struct {
	mu      sync.Mutex
	clients map[*client]bool
	last    []byte
}

func newHub() *hub { return &hub{clients: map[*client]bool{}} }

// join adds a client, whose first event is the one that was sent last; first
// makes one where there was none yet. So no older event overtakes a newer one.
func (h *hub) join(first func() []byte) *client {
	c := newClient()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		h.last = first()
	}
	c.send(h.last)
	h.clients[c] = true
	return c
}

func (h *hub) leave(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, c)
}

func (h *hub) send(e []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = e
	for c := range h.clients {
		c.send(e)
	}
}
