package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/device/transcript"
)

// found are the traces of a person that a text holds. Two characters of a name
// are enough, as are six of a number or an address.
func found(text string, p sim.Person, photo []byte) (all []string) {
	parts := append([]string{p.Name, p.Number, p.Address, p.Birth, p.Issuer}, p.NewAddresses...)
	for _, s := range []struct {
		text string
		n    int
	}{{p.Name, 2}, {p.Number, 6}, {p.Address, 6}, {p.Issuer, 6}} {
		r := []rune(s.text)
		for i := 0; i+s.n <= len(r); i++ {
			parts = append(parts, string(r[i:i+s.n]))
		}
	}
	for i := 0; i+8 <= len(photo); i += 8 {
		parts = append(parts, string(photo[i:i+8]))
	}
	for _, part := range parts {
		for _, trace := range betrayals(part) {
			if strings.Contains(text, string(trace)) {
				all = append(all, string(trace))
			}
		}
	}
	return all
}

// recorded runs record into a file until a card was laid on, read, lifted and
// missed, and gives what the command said. Without a reader somebody else does
// that.
func recorded(t *testing.T, reader *sim.Reader, card sim.Card, file string, args ...string) (said string) {
	t.Helper()
	r := startCommand(t, append(append([]string{"record"}, args...), file)...)
	holds := func(comment string) {
		t.Helper()
		eventually(t, 10*time.Second, comment, func() error {
			text, err := os.ReadFile(file)
			if err == nil && !contains(string(text), "\n# \""+comment+"\"\n") {
				err = fmt.Errorf("the recording has %d bytes", len(text))
			}
			return err
		})
	}
	if reader != nil {
		reader.Lay(card)
	}
	holds("card read")
	if reader != nil {
		reader.Lift()
	}
	holds("card removed")
	r.process.Signal(os.Interrupt)
	if err := r.wait(); err != nil {
		t.Fatalf("record ends with %v", err)
	}
	if said = r.errs.String(); !contains(said, "card read", "已读到证件", "card removed", "证件已取走") {
		t.Fatalf("record says\n%s", said)
	}
	return said
}

// TestRecord looks for a made-up person in a recording of her card.
func TestRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "mqtt://127.0.0.1:1")
	reader, pty := w.addReader("05", sim.ReaderOptions{Baud: 115200})
	person := sim.MadeUp(7)
	person.Address = "虚构省样例市示范区金丝雀大道七千七百七十七号"
	person.NewAddresses = []string{"虚构省样例市示范区百灵鸟大道八千八百八十八号"}
	card, err := person.Card()
	if err != nil {
		t.Fatal(err)
	}
	line := "serial://" + pty.Name + "?baud=115200"
	file := filepath.Join(w.dir, "masked")
	said := recorded(t, reader, card, file, "--line", line, "--kind", "sam")
	masked, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if all := found(string(masked)+said, person, card.Photo[:]); len(all) > 0 {
		t.Errorf("the recording holds %q", all)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if !contains(string(masked), "masked", "\n> ", "30 01 32\n", "05 08 00 00 90 01 00 04 00 2A 00 2A 00", "\n# \"card read\"\n", "\n# \"card removed\"\n") {
		t.Errorf("recording:\n%.3000s", masked)
	}
	if _, err := transcript.Parse(bytes.NewReader(masked)); err != nil {
		t.Error(err)
	}
	if _, errs, code := command(t, "record", "--line", line, "--kind", "sam", file); code != 1 || !contains(errs, "exists", "hint: ") {
		t.Errorf("over another: exits with %d\n%s", code, errs)
	}
	if again, err := os.ReadFile(file); err != nil || !bytes.Equal(again, masked) {
		t.Error("the first recording was touched")
	}

	whole := filepath.Join(w.dir, "whole")
	said = recorded(t, reader, card, whole, "--line", line, "--kind", "sam", "--unmasked")
	text, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, warned := range []string{said, string(text)} {
		if !contains(warned, "WARNING", "not masked", "警告", "未脱敏") {
			t.Errorf("no warning in\n%.600s", warned)
		}
	}
	if all := found(string(text), person, card.Photo[:]); len(all) < 100 {
		t.Errorf("an unmasked recording holds only %d traces", len(all))
	}
	if all := found(said, person, card.Photo[:]); len(all) > 0 {
		t.Errorf("record says %q", all)
	}

	reader.Lay(card)
	out, errs, code := command(t, "record", "--for", "2s", "--line", line, "--kind", "sam", "-")
	if all := found(out+errs, person, card.Photo[:]); code != 0 || len(all) > 0 || !contains(out, "\n< ", "2A 00 2A 00", "card read") {
		t.Errorf("to standard output: exits with %d, holds %q\n%.2000s\n%s", code, all, out, errs)
	}
}

// TestRecordListens writes down what comes by itself, over a line that is lost.
func TestRecordListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan int, 10)
	owned(t, func(ctx context.Context) {
		defer context.AfterFunc(ctx, func() { l.Close() })()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("secret \xAA\xAA\xAA\x96\x69\x00\x04\x00\x00\x80\x84"))
			c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			n, _ := c.Read(make([]byte, 10))
			heard <- n
			c.Close()
		}
	})
	for _, flag := range []string{"--listen", "--unmasked"} {
		out, errs, code := command(t, "record", "--for", "1s", "--line", "tcp://"+l.Addr().String(), "--listen", flag, "-")
		if code != 0 || strings.Count(out, "\"line is open\"") < 2 || !contains(out, "listening only", "AA AA AA 96 69 00 04 00 00 80 84\n") {
			t.Errorf("exits with %d\n%s%s", code, out, errs)
		}
		if secret := contains(out, "73 65 63 72 65 74 20"); secret != (flag == "--unmasked") {
			t.Errorf("%s: secret %v\n%s", flag, secret, out)
		}
		if bursts, err := transcript.Parse(strings.NewReader(out)); err != nil || len(bursts) < 2 {
			t.Errorf("%d bursts, %v", len(bursts), err)
		}
	}
	for len(heard) > 0 {
		if n := <-heard; n != 0 {
			t.Errorf("%d bytes were sent", n)
		}
	}
}

func TestRecordRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "recording")
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"--line serial:///dev/hallagent-none --kind sam --for 500ms FILE", 1, "hallagent devices"},
		{"--line serial:///dev/hallagent-none --kind nonesuch FILE", 1, "nonesuch"},
		{"--line nonesuch --kind sam FILE", 1, "nonesuch"},
		{"--line serial:///dev/x --kind sam DIR/none/recording", 1, "none/recording"},
		{"--line serial:///dev/x FILE", 2, "--kind"},
		{"--line serial:///dev/x --kind sam --listen FILE", 2, "--kind"},
		{"--line serial:///dev/x --kind sam --for 0s FILE", 2, "--for"},
		{"--line serial:///dev/x --kind sam", 2, "<out>"},
	} {
		args := strings.NewReplacer("FILE", file, "DIR", dir).Replace(tt.args)
		out, errs, code := command(t, append([]string{"record"}, strings.Fields(args)...)...)
		if code != tt.code || out != "" || !contains(errs, tt.want) {
			t.Errorf("%s: exits with %d\n%s%s", tt.args, code, out, errs)
		}
		if _, err := os.Lstat(file); err == nil {
			t.Fatalf("%s leaves a file behind", tt.args)
		}
	}
}
