package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device/sim"
)

// TestSimOrders gives every order of the reader's desk once, and wrong ones.
func TestSimOrders(t *testing.T) {
	var out bytes.Buffer
	d := desk{streams: streams{out: &out}, reader: sim.NewReader(sim.ReaderOptions{Baud: 115200})}
	if err := d.take(nil); err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{}
	for _, test := range []struct{ line, says string }{
		{"cards", "  6  foreigner_2017  样例虚构 SAMPLE, FICTITIOUS\n"},
		{"lay 6", "laid 6, foreigner_2017"},
		{"lay", "laid 7, "},
		{"swap 20", "laid 20, unknown"},
		{"lay", "laid 1, resident 测试甲"},
		{"lift", "lifted"},
		{"silent on", ""}, {"silent off", ""},
		{"mood", "  half BYTES [TIMES] "},
		{"mood well", "mood well"},
		{"mood slow 500ms", "mood slow 500ms"}, {"mood slow 1s 9600", ""}, {"mood late 2s", ""},
		{"mood noisy 0.5", ""}, {"mood noisy 1 7", ""}, {"mood flips 0.001 3", ""}, {"mood disturbed", ""},
		{"mood half 700 1", ""}, {"mood pieces 64 5ms", ""}, {"mood swallow 2", ""}, {"mood wedged", ""}, {"mood echo", ""},
		{"mood baud 9600", ""}, {"mood starting 1500ms 2 SAM V3", "mood starting 1500ms 2 SAM V3"},
		{"mood ill", ""}, {"mood unauthorised", ""}, {"mood refuse 3001 698241 2", ""},
		{"mood no-presence", ""}, {"mood presence-unknown", ""}, {"mood presence-once", ""},
		{"mood finds-again", ""}, {"mood rereads", ""},
	} {
		out.Reset()
		words := strings.Fields(test.line)
		if err := d.orders().obey("command", words); err != nil || !strings.Contains(out.String(), test.says) {
			t.Errorf("%s: says %q, %v", test.line, out.String(), err)
		}
		given[words[0]] = true
		if words[0] == "mood" && len(words) > 1 {
			given[words[1]] = true
		}
	}
	help := simReader{}.Help()
	for _, x := range append(d.orders(), d.moods()...) {
		if !given[x.name] && x.name != "plug" && x.name != "unplug" {
			t.Errorf("%s was not given", x.name)
		}
		if x.help == "" || !strings.Contains(help, "\n  "+strings.TrimSpace(x.name+" "+x.args)+" ") {
			t.Errorf("%s is not in the help", x.name)
		}
	}
	for line, says := range map[string]string{
		"dance": "known: cards, lay, lift", "mood sad": "known: well, slow", "lay 21": "there are 20", "lay x": "lay [N]", "swap": "swap N",
		"lift 2": "it is lift", "silent": "on|off", "mood slow": "slow TIME", "mood half": "half BYTES", "mood noisy 2": "CHANCE",
		"mood refuse 30 41": "refuse COMMAND", "mood echo on": "it is echo", "unplug": "no cable",
	} {
		if err := d.orders().obey("command", strings.Fields(line)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q in it", line, err, says)
		}
	}
}

// TestSimReaderOnTCP replays a fault from a script, and one from the keyboard.
func TestSimReaderOnTCP(t *testing.T) {
	script := filepath.Join(t.TempDir(), "fault")
	if err := os.WriteFile(script, []byte("# lifted too early\nlay # the next one\nwait 20ms\nlift\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, keys := io.Pipe()
	text, out := io.Pipe()
	var errs bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- run([]string{"sim", "reader", "--tcp", "127.0.0.1:0", "--mood", "slow 5ms", "--card-kinds", "hmt", "--script", script}, in, out, &errs)
		out.Close()
	}()
	lines := bufio.NewScanner(text)
	says := func(prefix string) string {
		t.Helper()
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), prefix) {
			t.Fatalf("says %q, want %q", lines.Text(), prefix)
		}
		return strings.TrimPrefix(lines.Text(), prefix)
	}
	says("mood slow 5ms")
	address, _, _ := strings.Cut(says("reader on "), ",")
	says("laid 1, hmt ")
	begin := time.Now()
	says("lifted")
	if took := time.Since(begin); took < 15*time.Millisecond {
		t.Errorf("the script waited %v", took)
	}
	says("script done")

	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	find := func(want string) {
		t.Helper()
		if _, err := conn.Write([]byte("\xAA\xAA\xAA\x96\x69\x00\x03\x20\x01\x22")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
			t.Fatalf("find is answered % X, %v", got, err)
		}
	}
	find("\xAA\xAA\xAA\x96\x69\x00\x04\x00\x00\x80\x84")
	for _, order := range [][2]string{{"lay 3", "laid 3"}, {"mood half 9 1", "mood half 9 1"}} {
		io.WriteString(keys, order[0]+"\n")
		says(order[1])
	}
	find("\xAA\xAA\xAA\x96\x69\x00\x08\x00\x00")
	find("\xAA\xAA\xAA\x96\x69\x00\x08\x00\x00\x9F\x00\x00\x00\x00\x97")
	io.WriteString(keys, "dance\nquit\n")
	if code := <-ended; code != 0 || !strings.Contains(errs.String(), "dance: no command") {
		t.Errorf("ended with %d: %s", code, errs.String())
	}
}

func TestSimReaderRefusesWrongFlags(t *testing.T) {
	for _, args := range [][]string{{"--mood", "sad"}, {"--mood", ""}, {"--card-kinds", "driver"}, {"--script", "/nonexistent/script"}} {
		out, errs, code := command(t, append([]string{"sim", "reader", "--tcp", "127.0.0.1:0"}, args...)...)
		if code != 1 || errs == "" {
			t.Errorf("%q: exits with %d\n%s%s", args, code, out, errs)
		}
	}
}
