package deploy_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// What each user may do, below hall/v1/ and there in every hall, but for a hall
// itself. What is not here is forbidden.
var (
	hallWrites = []string{"status", "devices/d", "occupancy", "visits", "audit", "lookup/request",
		"alarm/code/d", "result/1", "echo/1"}
	hallReads = []string{"echo/1", "lookup/reply/1", "ack/visits", "ack/audit", "command/1"}

	writes = map[string][]string{
		"queue":  {"ack/visits"},
		"forms":  {"lookup/reply/1", "command/1", "ack/audit"},
		"reader": nil,
	}
	reads = map[string][]string{
		"queue":  {"status", "devices/d", "occupancy", "visits", "alarm/code/d"},
		"forms":  {"status", "audit", "lookup/request", "result/1"},
		"reader": {"occupancy"},
	}
)

// places are all topics that are tried, by everybody: what the contract has in
// both halls and a third, near misses, and what is none of a hall's business.
func places() (topics []string) {
	for _, hall := range []string{hallA, hallB, "371003/third"} {
		for _, t := range append(slices.Clone(hallWrites), "lookup/reply/1", "ack/visits", "ack/audit", "command/1",
			"devices", "devices/d/x", "status/x", "alarm/code", "lookup", "ack", "echo", "unknown") {
			topics = append(topics, "hall/v1/"+hall+"/"+t)
		}
	}
	return append(topics, "hall/v1", "hall/v1/371003/status", "hall/v1/371003/wendengx/status", "hall/v2/"+hallA+"/status",
		"status", "tenant/secret", "hall/v1//wendeng/status", "other/hall/v1/"+hallA+"/visits")
}

// shadows are what the halls' pattern would let a service publish: the queue
// service would take the second for the occupancy of a hall.
var shadows = []string{"hall/v1/queue/status", "hall/v1/reader/devices/occupancy", "hall/v1/forms/alarm/devices/d"}

// hidden are topics of the brokers themselves; an observer does not see those.
var hidden = []string{"$SYS/broker/version", "$SYS/x", "$MQTT/msgs/hall/v1/" + hallB + "/visits",
	"$MQTT/rmsgs/hall/v1/" + hallB + "/status", "$MQTT/sub/x", "$JS/API/STREAM/NAMES", "$KV/x"}

// wild are filters that ask for more than anybody may have.
var wild = []string{"#", "+/+", "hall/#", "hall/v1/#", "hall/v1/+/+/#", "hall/v1/371003/+/+", "hall/v1/+/+/+/+", "+/+/+/+/+",
	"hall/v1/" + hallA + "/#", "hall/v1/" + hallB + "/#", "hall/v1/+/+/visits/#", "hall/v1/+/+/ack/#",
	"$SYS/#", "$MQTT/sub/#", "$MQTT/msgs/#", "$MQTT/#", "+/sub/#", "$JS/#", "$share/g/hall/v1/" + hallB + "/visits"}

// may tells whether a user has a right of the tables to a topic.
func may(user, topic string, own []string, service map[string][]string) bool {
	p := strings.SplitN(topic, "/", 5)
	if len(p) < 5 || p[0] != "hall" || p[1] != "v1" {
		return false
	}
	if strings.Contains(user, "/") {
		return p[2]+"/"+p[3] == user && slices.Contains(own, p[4])
	}
	return slices.Contains(service[user], p[4])
}

func TestRights(t *testing.T) {
	t.Parallel()
	t.Run("mosquitto", func(t *testing.T) {
		t.Parallel()
		s, _ := mosquittoSite(t)
		checkRights(t, s)
	})
	t.Run("NATS", func(t *testing.T) {
		t.Parallel()
		s, c := natsSite(t)
		checkRights(t, s)
		checkProtocol(t, c.Nodes[0].Client)
	})
}

func checkRights(t *testing.T, s site) {
	o := s.connect(t, observer, observer)
	o.subscribe("#")
	clients := map[string]*client{}
	for _, user := range users {
		clients[user] = s.connect(t, user, "of-"+strings.ReplaceAll(user, "/", "-"))
	}
	checkWrites(t, s, o, clients)
	checkReads(t, s, o, clients)
	for user, c := range clients {
		if !c.IsConnectionOpen() {
			t.Errorf("%s was disconnected", user)
		}
	}
	checkRefusals(t, s)
	checkClientID(t, s, clients[hallA])
	checkWill(t, s, o)
	checkSize(t, s, o)
}

// checkWrites lets everybody publish to everything. Both brokers confirm what
// they refuse, and keep the connection.
func checkWrites(t *testing.T, s site, o *client, clients map[string]*client) {
	for user, c := range clients {
		for _, topic := range slices.Concat(places(), shadows, hidden) {
			c.publish(topic, user, !may(user, topic, hallWrites, writes)) // a forbidden one would stay
		}
	}
	o.publish("marker/writes", "end", false)
	o.wait("marker/writes", "end")
	late := s.connect(t, observer, "observer-of-retained")
	late.subscribe("#")
	late.publish("marker/retained", "end", false)
	late.wait("marker/retained", "end")
	allowed := 0
	for _, topic := range slices.Concat(places(), shadows) {
		for user := range clients {
			right := may(user, topic, hallWrites, writes)
			o.mu.Lock()
			came := slices.Contains(o.got[topic], user)
			o.mu.Unlock()
			if came != right {
				t.Errorf("%s publishes to %s: arrives %t, want %t", user, topic, came, right)
			}
			if right {
				allowed++
			}
		}
	}
	for topic := range late.topics() {
		if topic != "marker/retained" {
			t.Errorf("%s is retained, from somebody without the right", topic)
		}
	}
	if want := 2*len(hallWrites) + 3*1 + 3*3; allowed != want {
		t.Errorf("%d allowed pairs of user and topic, want %d", allowed, want)
	}
}

// checkReads lets everybody subscribe to everything, and publishes everywhere.
// NATS refuses a filter that asks for anything more than it may have; mosquitto
// grants all, and leaves out.
func checkReads(t *testing.T, s site, o *client, clients map[string]*client) {
	for _, topic := range places() { // retained, from before the subscription
		o.publish(topic, "retained", true)
	}
	for user, c := range clients {
		own := map[string]bool{} // filters that are granted; a service has each over all halls
		for _, name := range reads[user] {
			own["hall/v1/+/+/"+name] = true
		}
		filters := slices.Concat(slices.Collect(maps.Keys(own)), wild)
		for _, topic := range places() {
			if !may(user, topic, hallReads, reads) {
				filters = append(filters, topic)
			} else if strings.Contains(user, "/") {
				filters = append(filters, topic)
				own[topic] = true
			}
		}
		for filter, code := range c.subscribe(filters...) {
			want := byte(1)
			if s.refuses && !own[filter] {
				want = 0x80
			}
			if code != want {
				t.Errorf("%s subscribes to %s: %#x, want %#x", user, filter, code, want)
			}
		}
	}
	for _, topic := range places() {
		o.publish(topic, "live", false)
	}
	for user, c := range clients {
		for _, topic := range places() {
			if may(user, topic, hallReads, reads) {
				c.wait(topic, "retained")
				c.wait(topic, "live")
			}
		}
		// Of what one client gets mosquitto keeps the order: this comes after all that
		// it may not have.
		last := lastOf(user)
		o.publish(last, "last", false)
		c.wait(last, "last")
		for topic := range c.topics() {
			if !may(user, topic, hallReads, reads) {
				t.Errorf("%s receives %s", user, topic)
			}
		}
	}
	for _, topic := range places() {
		o.publish(topic, "", true)
	}
}

// lastOf is a topic that a user may read.
func lastOf(user string) (last string) {
	for _, topic := range places() {
		if may(user, topic, hallReads, reads) {
			last = topic
		}
	}
	return last
}

// checkRefusals tries what must not even connect.
func checkRefusals(t *testing.T, s site) {
	for name, change := range map[string]func(*paho.ClientOptions){
		"anonymous":      func(o *paho.ClientOptions) { o.SetUsername("").SetPassword("") },
		"wrong password": func(o *paho.ClientOptions) { o.SetPassword("guess") },
		"no password":    func(o *paho.ClientOptions) { o.SetPassword("") },
		"unknown user":   func(o *paho.ClientOptions) { o.SetUsername("371003/nowhere") },
		"wildcard user":  func(o *paho.ClientOptions) { o.SetUsername("371003/+") },
		"no TLS":         func(o *paho.ClientOptions) { o.Servers[0].Scheme = "tcp" },
		"TLS 1.1": func(o *paho.ClientOptions) {
			o.TLSConfig.MinVersion, o.TLSConfig.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
		},
		"other authority": func(o *paho.ClientOptions) { o.TLSConfig.RootCAs = nil },
	} {
		for _, user := range []string{hallA, "queue"} {
			if _, err := s.try(t, user, "refused", change); err == nil {
				t.Errorf("%s as %s: connected", name, user)
			}
		}
	}
}

// checkWill: a will needs the same rights as a message.
func checkWill(t *testing.T, s site, o *client) {
	for i, topic := range []string{"hall/v1/" + hallB + "/status", "hall/v1/" + hallA + "/status"} {
		var conn net.Conn
		_, err := s.try(t, hallA, "dying", func(opts *paho.ClientOptions) {
			opts.SetWill(topic, "lost", 1, true)
			opts.SetCustomOpenConnectionFn(dialer(&conn))
		})
		if err != nil && i == 1 {
			t.Fatal(err)
		}
		if err == nil {
			conn.Close()
		}
	}
	o.wait("hall/v1/"+hallA+"/status", "lost") // comes after the other one
	if o.came("hall/v1/"+hallB+"/status", "lost", 0) {
		t.Error("a will into another hall was published")
	}
}

// checkClientID: mosquitto's listener for halls gives each user its own client
// id. NATS has nothing like it: the newcomer takes the session's place, and gets
// none of its rights.
func checkClientID(t *testing.T, s site, first *client) {
	if s.hijacks {
		return
	}
	for _, id := range []string{"of-371003-wendeng", hallA} {
		s.connect(t, hallB, id)
	}
	if topic := "hall/v1/" + hallA + "/echo/1"; !first.IsConnectionOpen() {
		t.Error("another hall took the client id")
	} else {
		first.publish(topic, "still here", false)
		first.wait(topic, "still here")
	}
}

// checkSize: 64 KiB of payload pass, much more ends the connection.
func checkSize(t *testing.T, s site, o *client) {
	c := s.connect(t, hallA, "large")
	topic := "hall/v1/" + hallA + "/visits"
	whole := strings.Repeat("x", 64<<10)
	c.publish(topic, whole, false)
	o.wait(topic, whole)
	large := strings.Repeat("y", 160<<10)
	if token := c.Publish(topic, 1, false, large); token.WaitTimeout(patience) && token.Error() == nil {
		t.Error("a message beyond the limit was confirmed")
	}
	if o.came(topic, large, 0) {
		t.Error("a message beyond the limit arrived")
	}
}

// checkProtocol speaks NATS' own protocol: only who is not kept to MQTT gets in.
func checkProtocol(t *testing.T, addr string) {
	for _, user := range append(slices.Clone(users), observer) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		login, err := json.Marshal(map[string]any{"user": user, "pass": password, "verbose": false})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "CONNECT %s\r\nPING\r\n", login)
		lines := bufio.NewScanner(conn)
		answer := ""
		for lines.Scan() && answer != "PONG" && !strings.HasPrefix(answer, "-ERR") {
			answer = lines.Text()
		}
		conn.Close()
		if in := answer == "PONG"; in != (user == observer) {
			t.Errorf("%s over NATS' own protocol: %q", user, answer)
		}
	}
}

func TestCertificatesOfHalls(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, s site) {
		if _, err := s.try(t, hallA, "bare"); err == nil {
			t.Error("connected without a certificate")
		}
		own, err := tls.LoadX509KeyPair(s.authority.Hall(hallA))
		if err != nil {
			t.Fatal(err)
		}
		with := func(o *paho.ClientOptions) { o.TLSConfig.Certificates = []tls.Certificate{own} }
		s.connect(t, hallA, "with", with)
		if _, err := s.try(t, hallA, "with", with, func(o *paho.ClientOptions) { o.SetPassword("guess") }); err == nil {
			t.Error("connected with a certificate and a wrong password")
		}
	}
	t.Run("mosquitto", func(t *testing.T) {
		t.Parallel()
		s, _ := mosquittoSite(t, "# cafile", "cafile", "# require_certificate", "require_certificate")
		check(t, s)
	})
	t.Run("NATS", func(t *testing.T) {
		t.Parallel()
		s, _ := natsSite(t, "# ca_file", "ca_file", "# verify", "verify")
		check(t, s)
	})
}
