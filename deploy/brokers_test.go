package deploy_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/hallagent/hallagent/deploy"
	"github.com/hallagent/hallagent/sync/mqtt/certificates"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/mqtt/nats"
)

const (
	hallA    = "371003/wendeng"
	hallB    = "371003/rongcheng"
	observer = "observer" // may do everything; the tests add it to what is shipped
	patience = 10 * time.Second
)

// password of a user; NATS has the hash of the same one.
const (
	password = "secret of tests"
	hash     = "$2y$04$K6GJUVCiZx5dxjdAbszZm.go3ipLTX0iYNA6bkd2uds01fclZ3ArW"
)

var users = []string{hallA, hallB, "queue", "forms", "reader"}

// site is a broker as it is shipped, and the observer.
type site struct {
	halls, services string // URLs
	authority       certificates.Authority
	refuses         bool // a SUBSCRIBE without the right to: answers 0x80
	hijacks         bool // a client id can be taken by any user
}

// mosquittoSite runs mosquitto with extra changes of its configuration, old and
// new text in turns.
func mosquittoSite(t testing.TB, replace ...string) (site, *mosquitto.Broker) {
	a := certificates.New(t)
	passwords := map[string]string{observer: password}
	for _, user := range users {
		passwords[user] = password
	}
	files := map[string]string{}
	for _, name := range []string{"ca.pem", "server.pem", "server.key"} {
		files[name] = a.Read(name)
	}
	b := mosquitto.Start(t, mosquitto.Options{
		Shipped: strings.NewReplacer(replace...).Replace(file(t, "mosquitto/mosquitto.conf")),
		ACL:     file(t, "mosquitto/acl") + "\nuser observer\ntopic readwrite #\n",
		Users:   passwords,
		Files:   files,
	})
	return site{halls: b.URL, services: b.Services, authority: a}, b
}

func natsSite(t testing.TB, replace ...string) (site, *nats.Cluster) {
	var passwords strings.Builder
	for _, user := range users {
		fmt.Fprintf(&passwords, "%s:%s\n", user, hash)
	}
	c := nats.Start(t, nats.Options{Passwords: passwords.String(),
		Replace: append(replace, "users: [\n", fmt.Sprintf("users: [\n  {user: %s, password: %q}\n", observer, hash))})
	return site{halls: c.Nodes[0].URL, services: c.Nodes[1].URL, authority: c.Authority, refuses: true, hijacks: true}, c
}

func file(t testing.TB, name string) string {
	t.Helper()
	b, err := deploy.Brokers.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// options of a client of a user, which the caller may change.
func (s site) options(t testing.TB, user, id string) *paho.ClientOptions {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(s.authority.Read("ca.pem"))) {
		t.Fatal("no certificate in ca.pem")
	}
	url := s.services
	if strings.Contains(user, "/") {
		url = s.halls
	}
	return paho.NewClientOptions().AddBroker(strings.Replace(url, "mqtts", "ssl", 1)).
		SetProtocolVersion(4).SetClientID(id).SetUsername(user).SetPassword(password).
		SetTLSConfig(&tls.Config{RootCAs: pool}).SetAutoReconnect(false).SetOrderMatters(true).SetConnectTimeout(patience)
}

// client is a connected user that keeps what it receives.
type client struct {
	paho.Client
	t testing.TB

	mu   sync.Mutex
	got  map[string][]string // payloads by topic
	news chan struct{}
}

// connect tries again until it is in, as an agent does: the gateway of a new
// cluster of NATS makes its streams when the first client comes, and may hang up on
// those who come meanwhile.
func (s site) connect(t testing.TB, user, id string, change ...func(*paho.ClientOptions)) *client {
	t.Helper()
	for deadline := time.Now().Add(3 * patience); ; time.Sleep(50 * time.Millisecond) {
		c, err := s.try(t, user, id, change...)
		if err == nil {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatalf("connect %s: %v", user, err)
		}
	}
}

func (s site) try(t testing.TB, user, id string, change ...func(*paho.ClientOptions)) (*client, error) {
	t.Helper()
	c := &client{t: t, got: map[string][]string{}, news: make(chan struct{})}
	o := s.options(t, user, id).SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got[m.Topic()] = append(c.got[m.Topic()], string(m.Payload()))
		close(c.news)
		c.news = make(chan struct{})
	})
	for _, f := range change {
		f(o)
	}
	c.Client = paho.NewClient(o)
	token := c.Connect()
	if !token.WaitTimeout(2 * patience) {
		return nil, fmt.Errorf("no answer")
	}
	t.Cleanup(func() { c.Disconnect(50) })
	return c, token.Error()
}

// subscribe gives the codes that the broker answers.
func (c *client) subscribe(filters ...string) map[string]byte {
	c.t.Helper()
	wanted := map[string]byte{}
	for _, f := range filters {
		wanted[f] = 1
	}
	token := c.SubscribeMultiple(wanted, nil)
	if !token.WaitTimeout(patience) || token.Error() != nil {
		c.t.Fatalf("subscribe: %v", token.Error())
	}
	return token.(*paho.SubscribeToken).Result()
}

// publish waits for the broker's confirmation, which comes for refused messages,
// too.
func (c *client) publish(topic, payload string, retain bool) {
	c.t.Helper()
	token := c.Publish(topic, 1, retain, payload)
	if !token.WaitTimeout(patience) || token.Error() != nil {
		c.t.Fatalf("publish %s: %v", topic, token.Error())
	}
}

// wait waits until a payload came on a topic.
func (c *client) wait(topic, payload string) {
	c.t.Helper()
	if !c.came(topic, payload, patience) {
		c.t.Fatalf("%s with %.40q did not come", topic, payload)
	}
}

func (c *client) came(topic, payload string, within time.Duration) bool {
	seen := 0
	for deadline := time.After(within); ; {
		c.mu.Lock()
		got, news := c.got[topic], c.news
		c.mu.Unlock()
		if slices.Contains(got[seen:], payload) {
			return true
		}
		seen = len(got)
		select {
		case <-news:
		case <-deadline:
			return false
		}
	}
}

// topics that something came on.
func (c *client) topics() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]bool{}
	for topic := range c.got {
		all[topic] = true
	}
	return all
}

// dialer opens TLS connections and keeps the last, to break it.
func dialer(kept *net.Conn) paho.OpenConnectionFunc {
	return func(u *url.URL, o paho.ClientOptions) (net.Conn, error) {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			return nil, err
		}
		*kept = conn
		config := o.TLSConfig.Clone()
		config.ServerName = u.Hostname()
		return tls.Client(conn, config), nil
	}
}
