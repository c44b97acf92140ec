package device

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// listening starts a listening link on a free port of this machine and tells
// where it is.
func listening(t *testing.T, scheme, allow string, use Use) (l *Link, at string) {
	t.Helper()
	l = NewListenLink("wifi-ir", Address{Scheme: scheme, Host: "127.0.0.1:0", Allow: allow}, use, discard())
	open, opened := l.open, make(chan net.Addr, 1)
	l.open = func(ctx context.Context) (io.Closer, error) {
		c, err := open(ctx)
		switch c := c.(type) {
		case connections:
			opened <- c.Addr()
		case *datagrams:
			opened <- c.LocalAddr()
		}
		return c, err
	}
	t.Cleanup(run(t, l))
	return l, (<-opened).String()
}

// answer gives back what it reads, in capitals, until the connection ends.
func answer(ctx context.Context, c Conn, heard func()) error {
	b := make([]byte, 100)
	for {
		n, err := c.Read(b)
		if err != nil {
			return err
		}
		heard()
		if _, err := c.Write([]byte(strings.ToUpper(string(b[:n])))); err != nil {
			return err
		}
	}
}

func dialAt(t *testing.T, network, at string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// say sends a word and wants it back in capitals.
func say(t *testing.T, c net.Conn, word string) {
	t.Helper()
	if _, err := c.Write([]byte(word)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(word))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != strings.ToUpper(word) {
		t.Fatalf("answer %q, %v", b, err)
	}
}

// shut waits until the other side closes.
func shut(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("it is not closed: %d bytes, %v", n, err)
	}
}

// until waits for what other goroutines and the system bring about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s did not happen", what)
		}
	}
}

func TestListenTCP(t *testing.T) {
	l, at := listening(t, SchemeTCPListen, "", answer)
	until(t, "listening", func() bool { return l.Status().State == Online })
	one, two := dialAt(t, "tcp", at), dialAt(t, "tcp", at)
	say(t, one, "hello")
	say(t, two, "world!")
	say(t, one, "again")
	one.Close()
	say(t, two, "still")
	// An answer can be here before it is counted there.
	until(t, "the count of bytes", func() bool { s := l.Status(); return s.BytesIn == 21 && s.BytesOut == 21 })
	if s := l.Status(); s.State != Online || s.Opens != 1 || s.Refused != 0 {
		t.Errorf("%+v", s)
	}
}

func TestListenUDP(t *testing.T) {
	for _, allow := range []string{"", "192.0.2.0/24,127.0.0.0/8"} {
		l, at := listening(t, SchemeUDPListen, allow, answer)
		c := dialAt(t, "udp", at)
		say(t, c, "one")
		say(t, c, "two two")
		until(t, "the count of bytes", func() bool { s := l.Status(); return s.BytesIn == 10 && s.BytesOut == 10 })
		if s := l.Status(); s.Refused != 0 {
			t.Errorf("%+v", s)
		}
	}
	l, at := listening(t, SchemeUDPListen, "192.0.2.0/24", answer)
	if _, err := dialAt(t, "udp", at).Write([]byte("stranger")); err != nil {
		t.Fatal(err)
	}
	until(t, "a refusal", func() bool { return l.Status().Refused == 1 })
	if s := l.Status(); s.BytesIn != 0 {
		t.Errorf("%+v", s)
	}
}

// TestDatagramEnds reads a datagram in two pieces, then its end, and tells who
// sent it.
func TestDatagramEnds(t *testing.T) {
	got := make(chan string, 1)
	_, at := listening(t, SchemeUDPListen, "", func(_ context.Context, c Conn, _ func()) error {
		b := make([]byte, 3)
		n, _ := io.ReadFull(c, b)
		rest, err := io.ReadAll(c)
		got <- string(b[:n]) + "|" + string(rest) + "|" + Peer(c)
		return err
	})
	if _, err := dialAt(t, "udp", at).Write([]byte("abcdef")); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "abc|def|127.0.0.1" {
		t.Errorf("read %q", s)
	}
}

func TestListenRefusesOthers(t *testing.T) {
	l, at := listening(t, SchemeTCPListen, "192.0.2.0/24", answer)
	for range 3 {
		shut(t, dialAt(t, "tcp", at))
	}
	if s := l.Status(); s.Refused != 3 || s.BytesIn != 0 || s.State != Online {
		t.Errorf("%+v", s)
	}
}

func TestAllows(t *testing.T) {
	for _, test := range []struct {
		allow, from string
		want        bool
	}{
		{"", "127.0.0.1", true},
		{"", "::1", true},
		{"", "10.0.0.7", false},
		{"10.0.0.0/24", "10.0.0.7", true},
		{"10.0.0.0/24", "::ffff:10.0.0.7", true},
		{"10.0.0.0/24", "10.0.1.7", false},
		{"10.0.0.0/24", "127.0.0.1", false},
		{"10.0.0.0/24,10.0.1.7", "10.0.1.7", true},
		{"fd00::/8", "fd00::5", true},
		{"nonsense", "10.0.0.7", false},
	} {
		from := net.ParseIP(test.from)
		addr := (&net.TCPAddr{IP: from}).AddrPort().Addr()
		if got := (Address{Allow: test.allow}).allows(addr); got != test.want {
			t.Errorf("%q from %s: %v", test.allow, test.from, got)
		}
	}
}

// TestListenServes64 refuses the 65th, and takes the next as soon as one goes.
func TestListenServes64(t *testing.T) {
	l, at := listening(t, SchemeTCPListen, "", answer)
	var all []net.Conn
	for range mostCallers {
		c := dialAt(t, "tcp", at)
		say(t, c, "here")
		all = append(all, c)
	}
	shut(t, dialAt(t, "tcp", at))
	if s := l.Status(); s.Refused != 1 {
		t.Errorf("%+v", s)
	}
	say(t, all[0], "all are served")
	all[5].Close()
	until(t, "room for one", func() bool {
		c := dialAt(t, "tcp", at)
		defer c.Close()
		c.Write([]byte("?"))
		n, _ := c.Read(make([]byte, 1))
		return n == 1
	})
}

// TestListenEnds closes every connection with its context, and Run returns only
// when each use has.
func TestListenEnds(t *testing.T) {
	var serving atomic.Int32
	l := NewListenLink("wifi-ir", Address{Scheme: SchemeTCPListen, Host: "127.0.0.1:0"}, func(ctx context.Context, c Conn, heard func()) error {
		serving.Add(1)
		defer serving.Add(-1)
		return answer(ctx, c, heard)
	}, discard())
	open, opened := l.open, make(chan string, 1)
	l.open = func(ctx context.Context) (io.Closer, error) {
		c, err := open(ctx)
		opened <- c.(connections).Addr().String()
		return c, err
	}
	stop := run(t, l)
	at := <-opened
	one, two := dialAt(t, "tcp", at), dialAt(t, "tcp", at)
	say(t, one, "here")
	say(t, two, "here")
	if n := serving.Load(); n != 2 {
		t.Errorf("%d served", n)
	}
	stop()
	if n := serving.Load(); n != 0 {
		t.Errorf("Run has returned, and %d are served", n)
	}
	shut(t, one)
	shut(t, two)
	if s := l.Status(); s.State != Waiting || s.Code != "closed" {
		t.Errorf("%+v", s)
	}
	if c, err := net.Dial("tcp", at); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}

// TestListenAddressTaken says why it cannot listen, and does so once it can.
func TestListenAddressTaken(t *testing.T) {
	holder, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := holder.Addr().String()
	l := NewListenLink("wifi-ir", Address{Scheme: SchemeTCPListen, Host: at}, answer, discard())
	defer run(t, l)()
	until(t, "trouble", func() bool { return l.Status().Code != "" })
	if s := l.Status(); s.State != Waiting || s.Code != "busy" || !strings.Contains(s.Hint, "address") {
		t.Errorf("%+v", s)
	}
	holder.Close()
	until(t, "listening", func() bool { return l.Status().State == Online })
	say(t, dialAt(t, "tcp", at), "hello")
}
