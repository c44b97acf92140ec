package counter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
)

// Dahua HTTP API, "People Counting": the summary of a channel is asked for, or
// the camera is attached to and sends it when it changes, with heartbeats
// between.
const (
	dahuaURL       = "http://%s/cgi-bin/videoStatServer.cgi?action=%s&channel=%d"
	dahuaHeartbeat = 5 * time.Second
	dahuaAnswer    = 10 * time.Second // for an answer, and for a part of a stream
	dahuaText      = 64 << 10         // bytes of a summary

	refusedRest = 10 * time.Minute // before a login that was refused is tried again
	refusedLook = 5 * time.Second  // between two looks at the file of its password
)

// askDahua follows all counters of a camera until one cannot be asked any more.
// The first connection is the line's; the camera may close it after each answer,
// and then others are opened.
func askDahua(ctx context.Context, c device.Conn, on *units) error {
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	first := make(chan net.Conn, 1)
	first <- newHTTPConn(c)
	dial := device.TCP(on.ear.line)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			select {
			case c := <-first:
				return c, nil
			default:
			}
			c, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			return newHTTPConn(c), nil
		},
		DisableCompression:    true,
		ResponseHeaderTimeout: dahuaAnswer,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ended := make(chan error, len(on.ear.members))
	for _, m := range on.ear.members {
		d := &dahua{member: m, settings: m.config.Settings.(*CameraSettings), client: client, on: on}
		following.Go(func() { ended <- d.follow(ctx) })
	}
	return <-ended
}

// dahua is one counter of a camera.
type dahua struct {
	*member
	settings *CameraSettings
	client   *http.Client
	on       *units
	wrong    int // answers in a row that are of no use
}

// errUseless is an answer that is none of a camera that counts people.
var errUseless = errors.New("the camera gives no figures")

// follow asks, or listens, until the line is over.
func (d *dahua) follow(ctx context.Context) error {
	ask := d.pull
	if d.settings.Mode == modeAttach {
		ask = d.attach
	}
	for {
		password, err := readSecret(d.settings.PasswordFile, 1)
		if err == nil {
			err = ask(ctx, login{d.settings.Username, password})
		} else {
			err = fmt.Errorf("%w: %w", errRefused, err)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			d.wrong = 0
			err = device.Pause(ctx, d.settings.poll())
		case errors.Is(err, errRefused):
			d.set(device.Wedged, "refused", err, "check username and password_file, and the user's right to see; it is tried again when the file changes or in ten minutes, since wrong tries lock the account")
			err = d.rest(ctx, password)
		case errors.Is(err, errUseless):
			d.useless(err)
			err = device.Pause(ctx, max(d.settings.poll(), silentPoll))
		}
		if err != nil {
			return err
		}
	}
}

// useless counts an answer without figures, and complains of the third in a row.
func (d *dahua) useless(err error) {
	d.count(func(s *Status) { s.Errors++ })
	if d.wrong++; d.wrong >= silentAfter {
		d.set(device.Wedged, "exception", err, "check channel and area, and that people counting is switched on in the camera")
	}
}

// rest waits until a refused password may have become right.
func (d *dahua) rest(ctx context.Context, refused string) error {
	for end := time.Now().Add(refusedRest); time.Now().Before(end); {
		if err := device.Pause(ctx, refusedLook); err != nil {
			return err
		}
		if now, err := readSecret(d.settings.PasswordFile, 1); err == nil && now != refused {
			return nil
		}
	}
	return nil
}

// pull asks once.
func (d *dahua) pull(ctx context.Context, l login) error {
	ctx, cancel := context.WithTimeoutCause(ctx, dahuaAnswer, device.ErrSilent)
	defer cancel()
	resp, err := d.get(ctx, l, "getSummary", "")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, dahuaText))
	if err != nil {
		return d.lost(ctx, err)
	}
	return d.told(ctx, string(text))
}

// attach listens to the camera until it ends the stream.
func (d *dahua) attach(ctx context.Context, l login) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(dahuaAnswer, func() { cancel(device.ErrSilent) })
	defer watch.Stop()
	resp, err := d.get(ctx, l, "attach", fmt.Sprintf("&heartbeat=%d", int(dahuaHeartbeat.Seconds())))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // none is no stream, too
	if !strings.HasPrefix(kind, "multipart/") {
		return fmt.Errorf("%w: content type %q", errUseless, clip(kind, 40))
	}
	r := bufio.NewReader(resp.Body)
	for {
		watch.Reset(2*dahuaHeartbeat + dahuaAnswer)
		text, err := readPart(r)
		if err != nil {
			return d.lost(ctx, err)
		}
		d.on.heard()
		if strings.TrimSpace(text) == "Heartbeat" {
			if d.wrong < silentAfter {
				d.alive("", "")
			}
			d.again(ctx)
			continue
		}
		switch err := d.told(ctx, text); {
		case err == nil:
			d.wrong = 0
		case !errors.Is(err, errUseless):
			return err
		case d.snapshot(time.Now()).LastReading.IsZero(): // another area's, perhaps; but if nothing else comes, it is the wrong one
			d.useless(err)
		}
	}
}

// get asks the camera, and hears that it answers.
func (d *dahua) get(ctx context.Context, l login, action, more string) (*http.Response, error) {
	resp, err := l.get(ctx, d.client, fmt.Sprintf(dahuaURL, d.on.ear.line.Host, action, d.settings.channel())+more)
	if err != nil {
		return nil, d.lost(ctx, err)
	}
	d.on.heard()
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	discard(resp)
	if resp.StatusCode == http.StatusForbidden {
		return nil, fmt.Errorf("%w: %s", errRefused, resp.Status)
	}
	return nil, fmt.Errorf("%w: %s", errUseless, resp.Status)
}

// lost says why an answer did not come.
func (d *dahua) lost(ctx context.Context, err error) error {
	if timeout, ok := errors.AsType[net.Error](err); errors.Is(context.Cause(ctx), device.ErrSilent) ||
		ok && timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) {
		err = device.ErrSilent
	}
	if errors.Is(err, errRefused) {
		d.on.heard()
	}
	return fmt.Errorf("ask camera: %w", err)
}

// told takes a summary.
func (d *dahua) told(ctx context.Context, text string) error {
	r, err := d.settings.dahuaReading(text, time.Now())
	if err != nil {
		return err
	}
	if d.take(ctx, r) == nil { // else the total comes again
		d.alive("", "")
	}
	return nil
}

// readPart reads one part of a multipart stream: to its length where it tells
// one, so as not to wait for the next, else to an empty line.
func readPart(r *bufio.Reader) (string, error) {
	line := func() (string, error) {
		b, err := r.ReadSlice('\n')
		return strings.TrimRight(string(b), "\r\n"), err
	}
	for { // to the boundary
		if s, err := line(); err != nil {
			return "", err
		} else if strings.HasPrefix(s, "--") {
			break
		}
	}
	size := -1
	for {
		s, err := line()
		if err != nil {
			return "", err
		}
		if s == "" {
			break
		}
		if name, value, _ := strings.Cut(s, ":"); strings.EqualFold(name, "Content-Length") {
			if size, err = strconv.Atoi(strings.TrimSpace(value)); err != nil || size < 0 || size > dahuaText {
				return "", fmt.Errorf("%w: a part of %s bytes", errGarbled, clip(value, 20))
			}
		}
	}
	if size >= 0 {
		b := make([]byte, size)
		_, err := io.ReadFull(r, b)
		return string(b), err
	}
	var text strings.Builder
	for text.Len() < dahuaText {
		s, err := line()
		if err != nil || s == "" && text.Len() > 0 {
			return text.String(), err
		}
		text.WriteString(s + "\n")
	}
	return "", fmt.Errorf("%w: an endless part", errGarbled)
}

// dahuaReading finds the totals of the counter's area.
func (s *CameraSettings) dahuaReading(text string, now time.Time) (Reading, error) {
	figure := "Total"
	if s.Total == totalToday {
		figure = "Today"
	}
	for _, summary := range parseDahua(text) {
		if area, named := summary["AreaID"]; named && !fitsPlace(max(s.Area, 1), area) || !named && s.Area > 1 {
			continue
		}
		in, out, err := figures(summary["EnteredSubtotal."+figure], summary["ExitedSubtotal."+figure])
		if err != nil {
			return Reading{}, fmt.Errorf("%w: no %s", errUseless, figure)
		}
		return Reading{At: now, In: in, Out: out}, nil
	}
	return Reading{}, fmt.Errorf("%w: no summary of area %d", errUseless, max(s.Area, 1))
}

// parseDahua reads lines such as summary.EnteredSubtotal.Total=12, or with
// summary[0] where there are several areas. A name that comes again begins the
// next summary.
func parseDahua(text string) (all []map[string]string) {
	var last map[string]string
	var of string
	for line := range strings.SplitSeq(text, "\n") {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		head, name, ok := strings.Cut(key, ".")
		if !ok || !strings.HasPrefix(head, "summary") {
			continue
		}
		if _, again := last[name]; again || last == nil || head != of {
			last, of = map[string]string{}, head
			all = append(all, last)
		}
		last[name] = strings.TrimSpace(value)
	}
	return all
}
