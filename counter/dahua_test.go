package counter_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
)

var cameraLine = device.Address{Scheme: device.SchemeHTTP, Host: "192.0.2.8:80"}

// pipes is a listener to which pipes come.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// asked is a Dahua with the link that keeps its line.
type asked struct {
	*front
	camera *sim.Dahua
	link   *device.Link
}

// oneDahua runs a test with a camera in virtual time; to is the way to change the
// file of its password.
func oneDahua(t *testing.T, s counter.CameraSettings, o sim.DahuaOptions, password string, test func(t *testing.T, a asked, to func(string))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.Username, s.PasswordFile = "viewer", filepath.Join(t.TempDir(), "password")
		to := func(p string) {
			if err := os.WriteFile(s.PasswordFile, []byte(p), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if password != "" {
			to(password)
		}
		o.User, o.Password, o.Start = "viewer", "right", [2]uint64{500, 400}
		a := asked{front: newFront(t, cameraLine, nil, counter.Config{ID: "cam-2", Kind: "camera", Door: "D1", Settings: &s}), camera: sim.NewDahua(o)}
		come := make(pipes, 100)
		a.link = device.NewLink("cam", func(context.Context) (device.Conn, error) {
			host, dev := net.Pipe()
			come <- dev
			return host, nil
		}, a.owner.Use, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		served, ended := make(chan error, 1), make(chan error, 1)
		go func() { served <- a.camera.Serve(ctx, come) }()
		go func() { ended <- a.link.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			<-ended
			close(come)
			<-served
		})
		time.Sleep(1500 * time.Millisecond)
		test(t, a, to)
	})
}

func TestDahua(t *testing.T) {
	for name, test := range map[string]struct {
		settings counter.CameraSettings
		options  sim.DahuaOptions
	}{
		"pull":          {counter.CameraSettings{}, sim.DahuaOptions{}},
		"pull, fast":    {counter.CameraSettings{Poll: time.Second}, sim.DahuaOptions{SHA256: true}},
		"attach":        {counter.CameraSettings{Mode: "attach"}, sim.DahuaOptions{}},
		"attach, area":  {counter.CameraSettings{Mode: "attach", Area: 3}, sim.DahuaOptions{Areas: 3, SHA256: true}},
		"pull, area":    {counter.CameraSettings{Area: 2}, sim.DahuaOptions{Areas: 2}},
		"attach, today": {counter.CameraSettings{Mode: "attach", Total: "today"}, sim.DahuaOptions{}},
	} {
		t.Run(name, func(t *testing.T) {
			oneDahua(t, test.settings, test.options, "right\n", func(t *testing.T, a asked, _ func(string)) {
				walk(a.camera.Pass, 40*time.Minute)
				f, st := a.front, a.status()
				f.wants(t, 120, 40)
				if st.State != device.Online || st.Code != "" || st.Errors+st.Gaps+st.Resets+st.Rebases != 0 || a.camera.WrongLogins() != 0 {
					t.Errorf("status %+v, %d wrong logins", st, a.camera.WrongLogins())
				}
				a.camera.Silence(true)
				a.camera.Pass(7, 5)
				time.Sleep(time.Minute)
				if st, line := a.status(), a.link.Status(); st.State != device.Wedged || st.Code != "silent" || line.State != device.Wedged {
					t.Errorf("silent: %+v, line %+v", st, line)
				}
				a.camera.Silence(false)
				time.Sleep(20 * time.Second)
				f.wants(t, 127, 45)
				if st, line := a.status(), a.link.Status(); st.State != device.Online || st.Code != "" || line.State != device.Online {
					t.Errorf("back: %+v, line %+v", st, line)
				}
			})
		})
	}
}

// lateEvening is where virtual time begins an hour before midnight.
var lateEvening = time.FixedZone("", 23*3600)

// TestDahuaMidnight counts on over the hour at which today's figures fall to zero.
func TestDahuaMidnight(t *testing.T) {
	for _, total := range []string{"total", "today"} {
		for _, mode := range []string{"pull", "attach"} {
			oneDahua(t, counter.CameraSettings{Mode: mode, Total: total}, sim.DahuaOptions{Zone: lateEvening}, "right", func(t *testing.T, a asked, _ func(string)) {
				walk(a.camera.Pass, 30*time.Minute)
				time.Sleep(time.Hour)
				walk(a.camera.Pass, 20*time.Minute)
				time.Sleep(10 * time.Second)
				a.wants(t, 150, 50)
				want := counter.Status{In: 650, Out: 450}
				if total == "today" {
					want = counter.Status{In: 60, Out: 20, Resets: 1}
				}
				if st := a.status(); st.In != want.In || st.Out != want.Out || st.Resets != want.Resets || st.Rebases != 0 {
					t.Errorf("%s, %s: status %+v", mode, total, st)
				}
			})
		}
	}
}

// TestDahuaWrongPassword tries once, and again only after ten minutes or with
// another password.
func TestDahuaWrongPassword(t *testing.T) {
	for _, mode := range []string{"pull", "attach"} {
		oneDahua(t, counter.CameraSettings{Mode: mode}, sim.DahuaOptions{}, "wrong", func(t *testing.T, a asked, to func(string)) {
			refused := func(times int) {
				t.Helper()
				if st := a.status(); st.State != device.Wedged || st.Code != "refused" || st.Hint == "" || a.link.Status().State != device.Online {
					t.Errorf("status %+v", st)
				}
				if n := a.camera.WrongLogins(); n != times {
					t.Errorf("%d wrong logins", n)
				}
			}
			time.Sleep(9 * time.Minute)
			refused(1)
			time.Sleep(2 * time.Minute)
			refused(2)
			to("wrong again")
			time.Sleep(10 * time.Second)
			refused(3)
			to("right\n")
			time.Sleep(10 * time.Second)
			if st := a.status(); st.State != device.Online || st.Code != "" {
				t.Errorf("with the right one: %+v", st)
			}
			a.camera.Pass(2, 1)
			time.Sleep(6 * time.Second)
			a.wants(t, 2, 1)
			if mode == "attach" {
				return
			}
			a.camera.SetPassword("changed")
			time.Sleep(5 * time.Minute)
			refused(4)
			to("changed")
			time.Sleep(10 * time.Second)
			if st := a.status(); st.State != device.Online || a.camera.WrongLogins() != 4 {
				t.Errorf("with the changed one: %+v", st)
			}
		})
	}
}

// TestDahuaWithoutPasswordFile does not knock, and begins when the file is there.
func TestDahuaWithoutPasswordFile(t *testing.T) {
	oneDahua(t, counter.CameraSettings{}, sim.DahuaOptions{}, "", func(t *testing.T, a asked, to func(string)) {
		time.Sleep(time.Minute)
		if st := a.status(); st.Code != "refused" || a.camera.WrongLogins() != 0 {
			t.Errorf("status %+v", st)
		}
		to("right")
		time.Sleep(10 * time.Second)
		if st := a.status(); st.State != device.Online {
			t.Errorf("status %+v", st)
		}
	})
}

// TestDahuaStale answers again where the camera has forgotten what it asked.
func TestDahuaStale(t *testing.T) {
	oneDahua(t, counter.CameraSettings{}, sim.DahuaOptions{}, "right", func(t *testing.T, a asked, _ func(string)) {
		a.camera.Forget(1)
		time.Sleep(time.Minute)
		if st := a.status(); st.State != device.Online || st.Code != "" || a.camera.WrongLogins() != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestDahuaWrongChannel is a camera that answers, and not with figures.
func TestDahuaWrongChannel(t *testing.T) {
	for _, s := range []counter.CameraSettings{{Channel: 2}, {Area: 2}, {Channel: 2, Mode: "attach"}} {
		oneDahua(t, s, sim.DahuaOptions{}, "right", func(t *testing.T, a asked, _ func(string)) {
			time.Sleep(time.Minute)
			if st := a.status(); st.State != device.Wedged || st.Code != "exception" || st.Hint == "" || a.link.Status().State != device.Online {
				t.Errorf("%+v: status %+v", s, st)
			}
		})
	}
}

// TestDahuaWithAFullDisk loses nothing: totals come again.
func TestDahuaWithAFullDisk(t *testing.T) {
	for _, mode := range []string{"pull", "attach"} {
		oneDahua(t, counter.CameraSettings{Mode: mode}, sim.DahuaOptions{}, "right", func(t *testing.T, a asked, _ func(string)) {
			walk(a.camera.Pass, 10*time.Minute)
			a.store.fill(errLost)
			walk(a.camera.Pass, 10*time.Minute)
			if st := a.status(); st.Code != "unstored" {
				t.Errorf("status %+v", st)
			}
			a.store.fill(nil)
			walk(a.camera.Pass, 10*time.Minute)
			time.Sleep(10 * time.Second)
			a.wants(t, 90, 30)
		})
	}
}

// TestDahuaOverTCP is a camera that closes each connection, and one that does not.
func TestDahuaOverTCP(t *testing.T) {
	for _, mode := range []string{"pull", "attach"} {
		for _, closes := range []bool{false, true} {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			camera := sim.NewDahua(sim.DahuaOptions{User: "viewer", Password: "right", Close: closes})
			run(t, func(ctx context.Context) error { return camera.Serve(ctx, l) })
			file := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(file, []byte("right"), 0o600); err != nil {
				t.Fatal(err)
			}
			line := device.Address{Scheme: device.SchemeHTTP, Host: l.Addr().String()}
			f := newFront(t, line, nil, counter.Config{ID: "cam-2", Kind: "camera", Door: "D1", Settings: &counter.CameraSettings{
				Mode: mode, Poll: time.Second, Username: "viewer", PasswordFile: file,
			}})
			link := device.NewLink("cam", device.TCP(line), f.owner.Use, slog.New(slog.DiscardHandler))
			run(t, link.Run)
			eventually(t, "a reading", func() bool { return !f.status().LastReading.IsZero() })
			camera.Pass(3, 2)
			eventually(t, "the passes", func() bool { in, out := f.store.sum("D1"); return in == 3 && out == 2 })
			if st := f.status(); st.State != device.Online || link.Status().Opens != 1 || camera.WrongLogins() != 0 {
				t.Errorf("%s, closes %v: status %+v, line %+v", mode, closes, st, link.Status())
			}
		}
	}
}
