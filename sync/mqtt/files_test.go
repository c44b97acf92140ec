//go:build unix

package mqtt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

// install puts files in place as a whole.
func install(t *testing.T, files map[string]string) {
	t.Helper()
	for to, from := range files {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to+".new", b, 0o600)
		}
		if err == nil {
			err = os.Rename(to+".new", to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A client's certificate expires, is replaced, by rubbish and by a good one, all
// under way. In full length attempts are as far apart as in use.
func TestTortureOwnCertificate(t *testing.T) {
	long := os.Getenv("HALLAGENT_TORTURE") != ""
	ca := newAuthority(t)
	cert, key := ca.issue("localhost", []string{"localhost"})
	b := mosquitto.Start(t, mosquitto.Options{CAFile: ca.file, CertFile: cert, KeyFile: key, Extra: []string{"require_certificate true"}})
	good, goodKey := ca.issue("gateway", nil)
	newer, newerKey := ca.issue("gateway-2", nil)
	ca.life = -time.Minute
	old, oldKey := ca.issue("gateway-0", nil)
	own, ownKey := filepath.Join(t.TempDir(), "own.pem"), filepath.Join(t.TempDir(), "own.key")

	wills := listenWith(t, Options{URL: b.URL, CAFile: ca.file, CertFile: good, KeyFile: goodKey})
	install(t, map[string]string{own: old, ownKey: oldKey})
	c, _ := run(t, Options{URL: b.URL, CAFile: ca.file, CertFile: own, KeyFile: ownKey,
		Will: func(uint64) Message { return Message{"status", false, []byte("lost")} },
	}, func(c *Client) {
		c.times.look = 100 * time.Millisecond
		if long {
			c.backoff = jitter
		}
	})
	s := until(t, c, "refused", func(s Status) bool { return s.Code != "" })
	if s.Code != CodeTLS || !strings.Contains(s.Hint, "gateway's certificate has expired") || !s.OwnExpires.Before(time.Now()) {
		t.Errorf("status %+v", s)
	}
	t.Logf("expired: %s", s.Err)
	if long {
		time.Sleep(30 * time.Second) // the trouble lasts, attempts become rare
	}
	began := time.Now()
	install(t, map[string]string{ownKey: goodKey, own: good})
	first := connected(t, c)
	t.Logf("connected %v after the certificate was replaced; attempts are at most 15 s apart in full length, 20 ms else", time.Since(began).Round(time.Millisecond))
	if s := c.Status(); s.Code != "" || s.OwnExpires.Before(time.Now()) || s.BrokerExpires.Before(time.Now()) {
		t.Errorf("status %+v", s)
	}

	for name, broken := range map[string]map[string]string{
		"rubbish": {own: goodKey}, "another key": {ownKey: newerKey}, "expired": {ownKey: oldKey, own: old},
	} {
		install(t, broken)
		if s := until(t, c, "told of "+name, func(s Status) bool { return s.Code != "" }); s.Code != CodeFile || s.State != Connected || s.Hint == "" {
			t.Errorf("%s: status %+v", name, s)
		}
		install(t, map[string]string{ownKey: goodKey, own: good})
		until(t, c, "well again after "+name, func(s Status) bool { return s.Code == "" })
	}
	if first.Err() != nil {
		t.Error("files that cannot be used ended a connection")
	}
	install(t, map[string]string{ownKey: newerKey, own: newer})
	<-first.Done()
	if err := publish(t, c, "visits", false, "sealed anew"); err != nil {
		t.Error(err)
	}
	wills.expect("visits=sealed anew") // and no will before it
	if n := c.Status().Connects; n != 2 {
		t.Errorf("%d connects", n)
	}
}

// The broker's certificate expires and is replaced. mosquitto reads it again
// only when it starts, or with a reload.
func TestBrokerCertificate(t *testing.T) {
	ca := newAuthority(t)
	good, goodKey := ca.issue("good", []string{"localhost"})
	ca.life = -time.Minute
	old, oldKey := ca.issue("old", []string{"localhost"})
	cert, key := filepath.Join(ca.dir, "in-use.pem"), filepath.Join(ca.dir, "in-use.key")
	install(t, map[string]string{cert: old, key: oldKey})
	b := mosquitto.Start(t, mosquitto.Options{CAFile: ca.file, CertFile: cert, KeyFile: key})
	c, _ := run(t, Options{URL: b.URL, CAFile: ca.file})
	s := until(t, c, "refused", func(s Status) bool { return s.Code != "" })
	if s.Code != CodeTLS || !strings.Contains(s.Hint, "broker's certificate has expired") || !s.BrokerExpires.Before(time.Now()) {
		t.Errorf("status %+v", s)
	}
	install(t, map[string]string{cert: good, key: goodKey})
	began := time.Now()
	b.Reload()
	connected(t, c)
	t.Logf("connected %v after the broker's reload", time.Since(began).Round(time.Millisecond))
	if s := c.Status(); s.BrokerExpires.Before(time.Now()) {
		t.Errorf("status %+v", s)
	}
}

// A new password is used without waiting for the connection to end.
func TestPasswordChanged(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{Users: map[string]string{"wendeng": "first"}})
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	c, _ := run(t, Options{URL: b.URL, Username: "wendeng", PasswordFile: file}, func(c *Client) { c.times.look = 100 * time.Millisecond })
	first := connected(t, c)
	b.SetUsers(map[string]string{"wendeng": "second"})
	b.Reload()
	write("second\n")
	<-first.Done()
	connected(t, c)
}
