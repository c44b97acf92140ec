package mqtt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

const (
	connectTimeout = 10 * time.Second
	writeTimeout   = 5 * time.Second
	pingTimeout    = 10 * time.Second
	farewellWait   = time.Second
	quiesce        = 250             // milliseconds for paho to say good-bye
	settled        = 5 * time.Second // a connection that lasted so long was a good one
	renewCheck     = time.Hour       // between two looks at a broker's certificate that soon ends
	renewSoon      = 14 * 24 * time.Hour
)

// times are those that tests shorten.
type times struct {
	echoWait  time.Duration // for an echo to come back
	echoEvery time.Duration // between echoes that come back
	echoSoon  time.Duration // after the first that did not
	echoAgain time.Duration // after more that did not
	look      time.Duration // between looks at the files, at most
	steady    time.Duration // a connection that the broker keeps so long has no rival
	ask       time.Duration // until a subscription that was refused is asked for again
}

var usualTimes = times{
	echoWait: 10 * time.Second, echoEvery: 5 * time.Minute, echoSoon: time.Second, echoAgain: 20 * time.Second,
	look: 30 * time.Second, steady: time.Minute, ask: 5 * time.Second,
}

// jitter is the wait before an attempt: anything up to a bound that doubles from
// 250 ms to 15 s, so that the halls of a city do not come back all at once.
func jitter(attempt int) time.Duration {
	bound := min(15*time.Second, 250*time.Millisecond<<min(attempt, 10))
	return rand.N(bound)
}

// Run connects, serves the connection, and connects again, until ctx ends; then
// it says farewell and disconnects. It returns nil.
func (c *Client) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(c.stopped)
	stopHandling := make(chan struct{})
	defer close(stopHandling)
	wg.Go(func() { c.handle(stopHandling) })

	var logged time.Time
	text, count := "", 0
	for attempt, number := 0, uint64(1); ctx.Err() == nil; number++ {
		began := time.Now()
		err := c.serve(ctx, number, &wg)
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errLarge) {
			if c.large++; c.large <= mostLarge { // whoever sends tries smaller ones
				attempt = min(attempt, 2)
			}
		} else {
			c.large = 0
			c.rival.ended(errors.Is(err, errTaken), time.Now())
		}
		if time.Since(began) > settled && c.Status().State == Connected && !errors.Is(err, errTaken) {
			attempt = 0
		}
		if c.rival.found() {
			err = fmt.Errorf("%w: %w", errRival, err)
		}
		if c.large >= takeovers {
			err = fmt.Errorf("%w: %w", errPacketLimit, err)
		}
		code, hint := c.cause(err)
		c.report(Waiting, func(s *Status) { s.Code, s.Err, s.Hint = code, err.Error(), hint })
		count++
		if err.Error() != text || time.Since(logged) > 30*time.Second {
			c.opts.Log.Warn("broker not connected", "line", c.opts.URL, "err", err, "hint", hint, "count", count)
			logged, text, count = time.Now(), err.Error(), 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(c.backoff(attempt)):
		}
		attempt++
	}
	c.report(Waiting, func(s *Status) { s.Code, s.Err, s.Hint = "", "", "" })
	return nil
}

// report changes the status.
func (c *Client) report(state State, f func(*Status)) {
	c.note(func(s *Status) {
		if s.State != state {
			s.State, s.Since = state, time.Now()
		}
		f(s)
	})
}

// note changes the status and leaves its state.
func (c *Client) note(f func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.status)
}

// handle passes on what arrives.
func (c *Client) handle(stop <-chan struct{}) {
	for {
		select {
		case m := <-c.inbox:
			if c.opts.Handle != nil {
				c.opts.Handle(m.topic, m.payload, m.retained)
			}
		case <-stop:
			return
		}
	}
}

// arrived is called by paho, and must not block.
func (s *session) arrived(_ paho.Client, m paho.Message) {
	if m.Topic() == s.c.opts.Echo {
		select {
		case s.echoes <- string(m.Payload()):
		default: // not one that is waited for
		}
		return
	}
	select {
	case s.c.inbox <- inbound{m.Topic(), m.Payload(), m.Retained()}:
	default:
		s.c.overflow.Add(1)
	}
}

// serve makes one connection and uses it until it is lost or ctx ends. What
// still runs then is in wg.
func (c *Client) serve(ctx context.Context, number uint64, wg *sync.WaitGroup) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errPanic, r)
		}
	}()
	address, err := parseURL(c.opts.URL)
	if err != nil {
		return err
	}
	using, err := c.load(address)
	if err != nil {
		return err
	}
	c.note(func(s *Status) { s.OwnExpires = using.expires })
	defer func() {
		if expired := using.expired(); errors.Is(err, errTLS) && expired != nil {
			err = fmt.Errorf("%w: %w", err, expired)
		}
	}()
	conn, err := c.dial(ctx, address, using.config)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Not ctx itself: when that ends there is still a farewell to send.
	s := newSession(context.WithoutCancel(ctx), c)
	s.line = conn
	defer func() { // paho tells what came of it, not what it was
		if fault := conn.fault(); fault != nil && err != nil {
			err = fault
		} else if err != nil {
			why := c.thrownOff(ctx, s, address)
			if errors.Is(why, errNotEchoed) && !c.echoLost() {
				why = nil
			}
			if why != nil {
				err = fmt.Errorf("%w: %w", why, err)
			}
		}
	}()
	defer s.cancel(ErrLost)
	opts := c.options(s, address, using, number)
	opts.SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return conn, nil })
	opts.SetConnectionLostHandler(func(_ paho.Client, err error) { s.cancel(fmt.Errorf("%w: %w", errBroken, err)) })
	s.paho = paho.NewClient(opts)
	defer s.paho.Disconnect(quiesce)
	defer func() { s.ended = conn.end() }() // before a good-bye of ours ends it

	giveUp := context.AfterFunc(ctx, func() { conn.Close() })
	defer giveUp()
	if t := s.paho.Connect(); t.Wait() && t.Error() != nil {
		err := t.Error()
		if address.Scheme == "mqtts" && errors.Is(err, packets.ErrorNetworkError) && !errors.Is(err, os.ErrDeadlineExceeded) {
			// A broker that does not like our certificate says so only now, or just hangs up.
			err = fmt.Errorf("%w: %w", errTLS, errors.Join(err, conn.end()))
		}
		return fmt.Errorf("connect: %w", err)
	}
	s.accepted = true
	refused, err := c.subscribe(s, c.opts.Subscriptions)
	if err != nil {
		return err
	}
	if err := c.introduce(s, number); err != nil {
		c.close(s)
		return err
	}
	if !giveUp() {
		c.close(s)
		return ctx.Err()
	}

	c.open(s, refused)
	var busy sync.WaitGroup
	busy.Go(s.pump)
	busy.Go(s.complete)
	if c.opts.Echo != "" {
		busy.Go(func() { c.echo(s) })
	}
	wg.Go(busy.Wait)
	err = c.attend(ctx, s, address, using, refused)
	c.close(s)
	if err != nil {
		return err
	}
	s.cancel(ErrLost)
	busy.Wait()
	c.farewell(s)
	return nil
}

// attend looks after a connection until it is lost, which it gives as an error,
// or ctx ends. Subscriptions that were refused are asked for again: a cluster
// refuses for a moment while it has no leader, and rights may be given.
func (c *Client) attend(ctx context.Context, s *session, address *url.URL, using *files, refused []string) error {
	steady := time.After(c.times.steady)
	checked := time.Now()
	for {
		// Not in step with other halls, where files come to all at once.
		look := time.After(c.times.look*2/3 + rand.N(c.times.look/3))
		var ask <-chan time.Time
		if len(refused) > 0 {
			ask = time.After(c.times.ask)
		}
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-ctx.Done():
			return nil
		case <-steady:
			c.rival.ended(false, time.Now())
			c.large = 0
			c.fault(faultRival, nil)
			continue
		case <-ask:
			var err error
			if refused, err = c.subscribe(s, refused); err != nil {
				return err
			}
			if len(refused) == 0 {
				c.fault(faultSubscription, nil)
				c.opts.Log.Info("subscriptions granted", "line", c.opts.URL)
			}
			continue
		case <-look:
		}
		changed, err := c.changed(address, using)
		if c.fault(faultFiles, err) {
			c.opts.Log.Warn("new files not used", "line", c.opts.URL, "err", err)
		}
		if changed {
			return fmt.Errorf("%w: the files have changed", errRenew)
		}
		if expires := c.Status().BrokerExpires; using.config != nil && time.Until(expires) < renewSoon && time.Since(checked) > renewCheck {
			checked = time.Now()
			if probe, err := c.dial(ctx, address, using.config); err == nil { // it notes what the broker shows now
				probe.Close()
			}
		}
	}
}

// options gives paho's.
func (c *Client) options(s *session, address *url.URL, using *files, number uint64) *paho.ClientOptions {
	o := paho.NewClientOptions()
	o.AddBroker(address.String())
	o.SetClientID(c.opts.ClientID)
	o.SetProtocolVersion(4)
	o.SetCleanSession(true)
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetOrderMatters(true)
	o.SetKeepAlive(c.opts.KeepAlive)
	o.SetPingTimeout(pingTimeout)
	o.SetWriteTimeout(c.writeTimeout)
	o.SetConnectTimeout(connectTimeout)
	o.SetDefaultPublishHandler(s.arrived)
	o.SetUsername(c.opts.Username)
	o.SetPassword(using.password)
	if c.opts.Will != nil {
		w := c.opts.Will(number)
		o.SetBinaryWill(w.Topic, w.Payload, 1, w.Retain)
	}
	return o
}

// subscribe asks for topics in one packet and gives those that were refused: the
// rest is still worth a connection.
func (c *Client) subscribe(s *session, topics []string) (refused []string, err error) {
	if len(topics) == 0 {
		return nil, nil
	}
	filters := make(map[string]byte, len(topics))
	for _, topic := range topics {
		filters[topic] = 1
	}
	s.line.topics.Store(int32(len(topics)))
	t := s.paho.SubscribeMultiple(filters, nil)
	if err := s.await(t); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	granted := t.(*paho.SubscribeToken).Result()
	for _, topic := range topics {
		if granted[topic] == 0x80 {
			refused = append(refused, topic)
		}
	}
	return refused, nil
}

// introduce publishes the birth and then all states, and waits until they are
// confirmed.
func (c *Client) introduce(s *session, number uint64) error {
	var first []item
	var birth Message
	if c.opts.Birth != nil {
		birth = c.opts.Birth(number)
		first = append(first, item{birth, func(error) {}})
	}
	c.mu.Lock()
	topics := append([]string(nil), c.order...)
	c.current = s // what changes from here on is sent by the pump
	c.mu.Unlock()
	for _, topic := range topics {
		it, ok := c.state(topic)
		if !ok || topic == birth.Topic && bytes.Equal(it.Payload, birth.Payload) {
			continue // the birth was that state, or it was forgotten
		}
		first = append(first, it)
	}
	var tokens []token
	for _, it := range first {
		tokens = append(tokens, s.publish(it))
	}
	for _, t := range tokens {
		err := s.await(t)
		t.done(err)
		if err != nil {
			return fmt.Errorf("publish birth and states: %w", err)
		}
		s.settled(t)
	}
	return nil
}

// await waits for paho to be through with something, or the connection to end.
func (s *session) await(t paho.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	case <-time.After(connectTimeout):
		return errNoAnswer
	}
}

// open tells that the connection is up, and lets publishers in unless an echo
// has to come back first.
func (c *Client) open(s *session, refused []string) {
	var wrong [faults]error
	if len(refused) > 0 {
		wrong[faultSubscription] = fmt.Errorf("%w: %s", errSubscribe, strings.Join(refused, ", "))
		c.opts.Log.Error("subscription refused", "line", c.opts.URL, "err", strings.Join(refused, ", "))
	}
	if c.rival.found() {
		wrong[faultRival] = errRival
	}
	s.opened = time.Now()
	c.report(Connected, func(st *Status) {
		st.Connects++
		if c.noRights {
			wrong[faultEcho] = errNotEchoed
		}
		c.wrong = wrong
		c.tellFaults()
	})
	if c.opts.Echo == "" {
		c.admit(s)
	}
	c.opts.Log.Info("broker connected", "line", c.opts.URL)
}

// close shows publishers out.
func (c *Client) close(s *session) {
	c.mu.Lock()
	c.current, c.ready = nil, nil
	c.mu.Unlock()
	s.cancel(ErrLost)
	s.finish()
}

// farewell sends the states that are still to be sent and the last message.
func (c *Client) farewell(s *session) {
	var last []item
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = nil // a late Forget would take topics out of it in place
	s.mu.Unlock()
	for _, topic := range dirty {
		if it, ok := c.state(topic); ok {
			last = append(last, it)
		}
	}
	if c.opts.Farewell != nil {
		last = append(last, item{c.opts.Farewell(), func(error) {}})
	}
	deadline := time.Now().Add(farewellWait)
	for _, it := range last {
		t := s.paho.Publish(it.Topic, 1, it.Retain, it.Payload)
		if !t.WaitTimeout(time.Until(deadline)) || t.Error() != nil {
			err := t.Error()
			if err == nil {
				err = errNoAnswer
			}
			c.opts.Log.Warn("farewell not confirmed", "line", c.opts.URL, "err", err)
			return
		}
		it.done(nil)
	}
}

var (
	errBroken    = errors.New("connection broken")
	errFile      = errors.New("unusable file")
	errNoAnswer  = errors.New("broker does not answer")
	errPanic     = errors.New("paho gave up")
	errRenew     = errors.New("connecting anew")
	errSubscribe = errors.New("subscription refused")
	errURL       = errors.New("bad broker URL")
)
