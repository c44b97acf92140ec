package mqtt

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

func TestPassword(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{Users: map[string]string{"wendeng": "right"}})
	file := filepath.Join(t.TempDir(), "password")
	c, _ := run(t, Options{URL: b.URL, Username: "wendeng", PasswordFile: file})
	if s := until(t, c, "without its file", func(s Status) bool { return s.Code != "" }); s.Code != CodeFile || !strings.Contains(s.Err, file) || s.Hint == "" {
		t.Errorf("status %+v", s)
	}
	if err := os.WriteFile(file, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := until(t, c, "refused", func(s Status) bool { return s.Code != CodeFile }); s.Code != CodeCredentials || !strings.Contains(s.Hint, "password") {
		t.Errorf("status %+v", s)
	}
	if err := os.WriteFile(file, []byte("right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	connected(t, c)
	if s := c.Status(); s.Code != "" || s.State != Connected {
		t.Errorf("status %+v", s)
	}
}

func TestSubscribeRefused(t *testing.T) {
	// mosquitto refuses a subscription only for its form; ACLs it applies later.
	stub, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stub.Close()
	c, _ := run(t, Options{URL: "mqtt://" + stub.Addr().String(), Subscriptions: []string{"ack/+", "command/+"}},
		func(c *Client) { c.times.ask = 10 * time.Millisecond })
	conn, err := stub.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	packet(t, conn)
	conn.Write([]byte{0x20, 2, 0, 0})
	sub := packet(t, conn)
	conn.Write([]byte{0x90, 4, sub[2], sub[3], 1, 0x80})
	s := until(t, c, "connected", func(s Status) bool { return s.State == Connected })
	if s.Code != CodeSubscription || !strings.Contains(s.Err, "/+") || s.Hint == "" {
		t.Errorf("status %+v", s)
	}
	// What was refused alone is asked for again, on the same connection.
	sub = packet(t, conn)
	if !bytes.HasSuffix(sub, []byte("/+\x01")) || len(sub) > 20 {
		t.Errorf("asked again with %q", sub)
	}
	conn.Write([]byte{0x90, 3, sub[2], sub[3], 1})
	until(t, c, "granted", func(s Status) bool { return s.State == Connected && s.Code == "" && s.Connects == 1 })
}

// packet reads one short packet of the client.
func packet(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	p, err := readPacket(conn)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readPacket(conn net.Conn) ([]byte, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(conn, head); err != nil {
		return nil, err
	}
	body := make([]byte, head[1])
	_, err := io.ReadFull(conn, body)
	return append(head, body...), err
}

func TestConnectErrors(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, c := range []struct{ name, url, code string }{
		{"refused", "mqtt://" + closed.Addr().String(), CodeRefused},
		{"name", "mqtt://broker.invalid", CodeUnreachable},
		{"scheme", "http://127.0.0.1:1883", CodeURL},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, _ := run(t, Options{URL: c.url})
			if s := until(t, client, "reported", func(s Status) bool { return s.Code != "" }); s.Code != c.code || s.Hint == "" {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// Answers of brokers that are wrong or mean: none may end the program or make it
// believe that it is connected.
func TestProtocol(t *testing.T) {
	ok := []byte{0x20, 2, 0, 0}
	for name, answer := range map[string][]byte{
		"connack code":    {0x20, 2, 0, 9},
		"connack length":  {0x20, 1, 0},
		"suback too long": append(ok, 0x90, 6, 0, 1, 0, 0, 0, 0),
		"suback short":    append(ok, 0x90, 2, 0, 1),
		"huge packet":     append(ok, 0x30, 0xff, 0xff, 0xff, 0x7f),
		"long length":     append(ok, 0x30, 0xff, 0xff, 0xff, 0xff, 0xff),
		"http":            []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			stub, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer stub.Close()
			c, _ := run(t, Options{URL: "mqtt://" + stub.Addr().String(), Subscriptions: []string{"ack/+"}})
			conn, err := stub.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.Write(answer)
			s := until(t, c, "reported", func(s Status) bool { return s.Code != "" })
			if s.State != Waiting || s.Connects != 0 || s.Code != CodeProtocol {
				t.Errorf("status %+v", s)
			}
		})
	}
}
