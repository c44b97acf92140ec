package counter_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
)

var pushLine = device.Address{Scheme: device.SchemeHTTPListen, Host: "127.0.0.1:8086"}

const secret = "a-path-that-nobody-guesses"

func secretFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// oneCamera runs a test with a Hikvision in virtual time.
func oneCamera(t *testing.T, s counter.CameraSettings, o sim.HikvisionOptions, sink func(*store) counter.Sink, test func(t *testing.T, h *sim.Hikvision, f *front)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.SecretFile = secretFile(t, secret+"\n")
		o.URL = "http://192.0.2.1:8086/" + secret
		f := newFront(t, pushLine, sink, counter.Config{ID: "cam-1", Kind: "camera", Door: "D1", Settings: &s})
		h := sim.NewHikvision(o)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx, f.dial) }()
		t.Cleanup(func() {
			cancel()
			<-ended
		})
		time.Sleep(time.Second)
		test(t, h, f)
	})
}

// walk lets three in and one out each minute.
func walk(pass func(in, out uint64), d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(30 * time.Second) {
		time.Sleep(30 * time.Second)
		pass(3, 1)
	}
}

var fiveWest = time.FixedZone("UTC-5", -5*3600)

func TestHikvisionRealtime(t *testing.T) {
	for _, o := range []sim.HikvisionOptions{{}, {Zone: fiveWest}, {Picture: bytes.Repeat([]byte("picture"), 20000)}} {
		for _, sink := range []func(*store) counter.Sink{nil, liar} {
			oneCamera(t, counter.CameraSettings{}, o, sink, func(t *testing.T, h *sim.Hikvision, f *front) {
				walk(h.Pass, 2*time.Hour)
				f.wants(t, 360, 120)
				if st := f.status(); sink == nil && (st.State != device.Online || st.Code != "" || st.In != 360 || st.Errors+st.Gaps+st.Resets+st.Rebases != 0) {
					t.Errorf("status %+v", st)
				}
				h.Reset()
				time.Sleep(time.Minute)
				walk(h.Pass, time.Hour)
				if in, out := f.store.sum("D1"); in != 540 || out != 180 {
					t.Errorf("after resetCount %d in, %d out", in, out)
				}
				if st := f.status(); sink == nil && st.Resets != 1 {
					t.Errorf("status %+v", st)
				}
			})
		}
	}
}

func TestHikvisionTimerange(t *testing.T) {
	for _, sink := range []func(*store) counter.Sink{nil, liar} {
		oneCamera(t, counter.CameraSettings{Statistical: "timerange"}, sim.HikvisionOptions{Zone: fiveWest}, sink, func(t *testing.T, h *sim.Hikvision, f *front) {
			walk(h.Pass, time.Hour)
			time.Sleep(15 * time.Minute)
			f.wants(t, 180, 60)
			h.Silence(true)
			walk(h.Pass, time.Hour)
			h.Silence(false)
			walk(h.Pass, time.Hour)
			time.Sleep(15 * time.Minute)
			f.wants(t, 540, 180)
			f.store.mu.Lock()
			defer f.store.mu.Unlock()
			for i, p := range f.store.passes {
				if took := p.To.Sub(p.From); took != 15*time.Minute || i > 0 && p.From.Before(f.store.passes[i-1].To) || p.Uncertain {
					t.Errorf("pass %d: %+v", i, p)
				}
			}
		})
	}
}

// TestHikvisionWithAFullDisk answers 503, and takes what is pushed again once.
func TestHikvisionWithAFullDisk(t *testing.T) {
	for _, method := range []string{"realtime", "timerange"} {
		oneCamera(t, counter.CameraSettings{Statistical: method}, sim.HikvisionOptions{}, nil, func(t *testing.T, h *sim.Hikvision, f *front) {
			walk(h.Pass, 20*time.Minute)
			f.store.fill(errLost)
			walk(h.Pass, 40*time.Minute)
			if st := f.status(); st.Code != "unstored" || st.State != device.Online {
				t.Errorf("status %+v", st)
			}
			f.store.fill(nil)
			walk(h.Pass, 20*time.Minute)
			time.Sleep(16 * time.Minute)
			f.wants(t, 240, 80)
			if st := f.status(); st.Code != "" || st.Rebases+st.Resets != 0 {
				t.Errorf("status %+v", st)
			}
		})
	}
}

func TestHikvisionFallsSilent(t *testing.T) {
	oneCamera(t, counter.CameraSettings{Patience: 2 * time.Minute}, sim.HikvisionOptions{}, nil, func(t *testing.T, h *sim.Hikvision, f *front) {
		time.Sleep(10 * time.Minute) // its heartbeats are enough
		if st := f.status(); st.State != device.Online {
			t.Errorf("with heartbeats: %+v", st)
		}
		h.Silence(true)
		time.Sleep(3 * time.Minute)
		if st := f.status(); st.State != device.Wedged || st.Code != "silent" {
			t.Errorf("silent: %+v", st)
		}
		h.Silence(false)
		time.Sleep(time.Second)
		if st := f.status(); st.State != device.Online || st.Code != "" {
			t.Errorf("back: %+v", st)
		}
	})
}

// TestHikvisionKeepsNothing looks for a picture and an address in all that is
// left of a push.
func TestHikvisionKeepsNothing(t *testing.T) {
	const canary = "canary-in-the-picture"
	for _, method := range []string{"realtime", "timerange"} {
		oneCamera(t, counter.CameraSettings{Statistical: method}, sim.HikvisionOptions{Picture: []byte(strings.Repeat(canary, 1000))}, nil, func(t *testing.T, h *sim.Hikvision, f *front) {
			walk(h.Pass, 31*time.Minute)
			f.store.fill(errLost)
			walk(h.Pass, 5*time.Minute)
			f.store.fill(nil)
			walk(h.Pass, 31*time.Minute)
			f.store.mu.Lock()
			defer f.store.mu.Unlock()
			left, err := json.Marshal([]any{f.store.passes, f.store.notes, f.status(), f.owner.Strangers(), f.log.String()})
			if err != nil || len(f.store.passes) == 0 {
				t.Fatal(len(f.store.passes), err)
			}
			for _, mark := range f.store.marks {
				left = append(left, mark...)
			}
			for _, word := range []string{canary, "44:19:b6", "192.0.2.64", secret} {
				if bytes.Contains(left, []byte(word)) {
					t.Errorf("%s is left in %s", word, left)
				}
			}
		})
	}
}

// pushed sends a request as it stands and gives the status of the answer, 0 if
// there is none.
func pushed(t *testing.T, f *front, request string) int {
	t.Helper()
	c, _ := f.dial(t.Context())
	defer c.Close()
	go io.WriteString(c, request) // who refuses does not read it all
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func post(path, kind, body string) string {
	return fmt.Sprintf("POST /%s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", path, kind, len(body), body)
}

const (
	alert = `<EventNotificationAlert><eventType>PeopleCounting</eventType><peopleCounting><statisticalMethods>realTime</statisticalMethods><enter>1</enter><exit>0</exit></peopleCounting></EventNotificationAlert>`
	beat  = `<EventNotificationAlert><eventType>heartBeat</eventType></EventNotificationAlert>`
)

func TestHikvisionAnswers(t *testing.T) {
	multipart := func(kind, content, tail string) string {
		return "--b\r\nContent-Type: image/jpeg\r\n\r\n\xFF\xD8 picture\r\n--b\r\nContent-Disposition: form-data; name=\"x\"; filename=\"x.xml\"\r\n" + kind + "\r\n" + content + "\r\n" + tail
	}
	long := strings.Repeat("x", 1<<20)
	for name, test := range map[string]struct {
		request string
		status  int
		heard   int
	}{
		"an alert":              {post(secret, "application/xml", alert), 200, 1},
		"text/xml":              {post(secret, "text/xml; charset=utf-8", beat), 200, 1},
		"no content type":       {"PUT /" + secret + " HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n<a/>", 400, 0},
		"a test of the path":    {"POST /" + secret + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 200, 1},
		"another event":         {post(secret, "application/xml", strings.Replace(alert, "PeopleCounting<", "VMD<", 1)), 200, 1},
		"multipart":             {post(secret, "multipart/form-data; boundary=b", multipart("Content-Type: text/xml\r\n", alert, "--b--\r\n")), 200, 1},
		"multipart by its name": {post(secret, "multipart/form-data; boundary=b", multipart("", alert, "--b--\r\n")), 200, 1},
		"pictures alone":        {post(secret, "multipart/form-data; boundary=b", "--b\r\nContent-Type: image/jpeg\r\n\r\nx\r\n--b--\r\n"), 200, 1},
		"a cut multipart":       {post(secret, "multipart/form-data; boundary=b", "--b\r\nContent-Type: text/xml\r\n\r\n<Event"), 400, 0},
		"wrong path":            {post("a-path-that-somebody-guessed", "application/xml", alert), 404, 0},
		"no path":               {post("", "application/xml", alert), 404, 0},
		"a path below":          {post(secret+"/x", "application/xml", alert), 404, 0},
		"half a path":           {post(secret[:20], "application/xml", alert), 404, 0},
		"JSON":                  {post(secret, "application/json", `{"eventType": "PeopleCounting"}`), 415, 0},
		"a type of no kind":     {post(secret, "x y z", alert), 415, 0},
		"no alert":              {post(secret, "application/xml", "<html/>"), 400, 0},
		"XML too long":          {post(secret, "application/xml", beat[:len(beat)-30]+strings.Repeat(" ", 64<<10)+beat[len(beat)-30:]), 413, 0},
		"part too long":         {post(secret, "multipart/form-data; boundary=b", multipart("Content-Type: text/xml\r\n", beat+strings.Repeat(" ", 64<<10), "--b--\r\n")), 413, 0},
		"body said too long":    {"POST /" + secret + " HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: 1048577\r\n\r\n", 413, 0},
		"body too long":         {"POST /" + secret + " HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n100100\r\n" + multipart("Content-Type: text/xml\r\n", beat, long), 413, 0},
		"head too long":         {"POST /" + secret + " HTTP/1.1\r\nHost: x\r\nX: " + long, 431, 0},
		"no HTTP":               {"\xFA\xF5\xF6\x00\x01\r\n\r\n", 400, 0},
		"a slow head":           {"POST /" + secret + " HTTP/1.1\r\n", 0, 0},
		"a slow body":           {"POST /" + secret + " HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: 100\r\n\r\n<Event", 400, 0},
		"nothing":               {"", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFront(t, pushLine, nil, counter.Config{ID: "cam-1", Kind: "camera", Door: "D1", Settings: &counter.CameraSettings{SecretFile: secretFile(t, secret)}})
				start := time.Now()
				if got := pushed(t, f, test.request); got != test.status || f.times() != test.heard {
					t.Errorf("answered %d, heard %d times", got, f.times())
				}
				if took := time.Since(start); took > 21*time.Second {
					t.Errorf("it took %v", took)
				}
				if stranger := test.status == 404; (len(f.owner.Strangers()) > 0) != stranger || strings.Contains(fmt.Sprint(f.owner.Strangers(), f.log), "guess") {
					t.Errorf("strangers %q, log %s", f.owner.Strangers(), f.log)
				}
			})
		})
	}
}

// TestHikvisionBug lets a bug behind the handler end the program, as any other.
func TestHikvisionBug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bug := func(*store) counter.Sink { return func(context.Context, counter.Update) error { panic("bug") } }
		f := newFront(t, pushLine, bug, counter.Config{ID: "cam-1", Kind: "camera", Door: "D1", Settings: &counter.CameraSettings{SecretFile: secretFile(t, secret)}})
		dev, host := net.Pipe()
		go func() {
			defer dev.Close()
			io.WriteString(dev, post(secret, "text/xml", alert))
			io.Copy(io.Discard, dev)
		}()
		defer func() {
			if p := recover(); p != "bug" {
				t.Errorf("recovered %v", p)
			}
		}()
		f.owner.Use(f.ctx, host, func() {})
	})
}

// TestHikvisionSecret says what is the matter with the file of a path, and takes
// a new one without a restart.
func TestHikvisionSecret(t *testing.T) {
	for name, text := range map[string]string{"too short": "fifteen-letters", "empty": "\n", "missing": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := secretFile(t, text)
				if name == "missing" {
					os.Remove(file)
				}
				other := counter.Config{ID: "cam-2", Kind: "camera", Door: "D2", Settings: &counter.CameraSettings{SecretFile: secretFile(t, secret)}}
				f := newFront(t, pushLine, nil, counter.Config{ID: "cam-1", Kind: "camera", Door: "D1", Settings: &counter.CameraSettings{SecretFile: file}}, other)
				if got := pushed(t, f, post(strings.TrimSpace(text), "text/xml", beat)); got != 404 {
					t.Errorf("answered %d", got)
				}
				if got := pushed(t, f, post(secret, "text/xml", beat)); got != 200 {
					t.Errorf("the other camera is answered %d", got)
				}
				if st := f.owner.Status(); st[0].Code != "refused" || st[0].Hint == "" || st[0].State != device.Waiting || st[1].State != device.Online {
					t.Errorf("status %+v", st)
				}
				if err := os.WriteFile(file, []byte("sixteen-letters-or-more"), 0o600); err != nil {
					t.Fatal(err)
				}
				if got := pushed(t, f, post("sixteen-letters-or-more", "text/xml", beat)); got != 200 {
					t.Errorf("with its new path it is answered %d", got)
				}
				if st := f.status(); st.Code != "" || st.State != device.Online {
					t.Errorf("status %+v", st)
				}
			})
		})
	}
}

// TestHikvisionOverTCP is a camera with pictures on a real connection.
func TestHikvisionOverTCP(t *testing.T) {
	f := newFront(t, pushLine, nil, counter.Config{ID: "cam-1", Kind: "camera", Door: "D1", Settings: &counter.CameraSettings{SecretFile: secretFile(t, secret)}})
	at, _ := f.listen(t)
	h := sim.NewHikvision(sim.HikvisionOptions{URL: "http://" + at + "/" + secret, Picture: bytes.Repeat([]byte{0xFF, 0xD8}, 200_000)})
	run(t, func(ctx context.Context) error { return h.Run(ctx, nil) })
	eventually(t, "the first push", func() bool { return f.status().State == device.Online && !f.status().LastReading.IsZero() })
	h.Pass(3, 2)
	eventually(t, "the passes", func() bool { in, out := f.store.sum("D1"); return in == 3 && out == 2 })
}
