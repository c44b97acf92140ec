package sim

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"sync"
	"time"
)

// HikvisionOptions says how a camera of that make is set.
type HikvisionOptions struct {
	URL       string         // to which it pushes, with its secret path
	Window    time.Duration  // of the timeRange reports; 15 minutes if 0
	Heartbeat time.Duration  // between two heartbeats; 30 seconds if 0
	Zone      *time.Location // of its clock; one of -05:00 is written -5:00. UTC+8 if nil
	Picture   []byte         // goes with each push, if there is one
}

// Hikvision is a camera that counts people and pushes its totals at each change
// and the figures of each window, one among the other, in one of three namespaces.
type Hikvision struct {
	opts HikvisionOptions

	mu      sync.Mutex
	totals  [2]uint64 // as it shows them
	passed  [2]uint64 // since the simulation began
	window  [2]uint64
	begun   time.Time   // the window
	late    []hikWindow // that are not taken
	silent  bool
	dirty   bool // the totals are not taken
	pushes  int
	taken   uint64
	changed chan struct{}
}

// hikWindow is the report of a window.
type hikWindow struct {
	end time.Time
	xml string
}

const (
	hikAgain   = 2 * time.Second // after a push that was not taken
	hikTimeout = 5 * time.Second
)

// NewHikvision returns a camera that nobody has passed yet.
func NewHikvision(o HikvisionOptions) *Hikvision {
	o.Window = cmp.Or(o.Window, 15*time.Minute)
	o.Heartbeat = cmp.Or(o.Heartbeat, 30*time.Second)
	if o.Zone == nil {
		o.Zone = time.FixedZone("UTC+8", 8*3600)
	}
	return &Hikvision{opts: o, begun: time.Now(), dirty: true, changed: make(chan struct{}, 1)}
}

// Pass lets people through.
func (h *Hikvision) Pass(in, out uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for way, n := range [2]uint64{in, out} {
		h.totals[way] += n
		h.passed[way] += n
		h.window[way] += n
	}
	h.stir()
}

// Totals is who passed since the simulation began.
func (h *Hikvision) Totals() (in, out uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.passed[0], h.passed[1]
}

// Reset is the command resetCount, and what the camera does at midnight.
func (h *Hikvision) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.totals = [2]uint64{}
	h.stir()
}

// Silence makes the camera count and not push; of its windows it keeps all.
func (h *Hikvision) Silence(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silent = on
	h.stir()
}

// Asked is how many pushes were taken.
func (h *Hikvision) Asked() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.taken
}

func (h *Hikvision) stir() {
	h.dirty = true
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// Run pushes until ctx ends, whose error it gives. Dial may be nil for the
// address of the URL.
func (h *Hikvision) Run(ctx context.Context, dial Dial) error {
	transport := &http.Transport{DisableCompression: true}
	if dial != nil {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: hikTimeout}
	beat := time.Now().Add(h.opts.Heartbeat)
	for {
		h.endWindow()
		again := h.pushAll(ctx, client)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !time.Now().Before(beat) {
			beat = time.Now().Add(h.opts.Heartbeat)
			h.push(ctx, client, "heartBeat", "")
		}
		next := earliest(beat, h.ends())
		if again {
			next = earliest(next, time.Now().Add(hikAgain))
		}
		t := time.NewTimer(time.Until(next))
		select {
		case <-t.C:
		case <-h.changed:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

func (h *Hikvision) ends() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.begun.Add(h.opts.Window)
}

// endWindow makes the report of a window that is over.
func (h *Hikvision) endWindow() {
	h.mu.Lock()
	defer h.mu.Unlock()
	end := h.begun.Add(h.opts.Window)
	if time.Now().Before(end) {
		return
	}
	h.late = append(h.late, hikWindow{end, fmt.Sprintf("<peopleCounting><statisticalMethods>timeRange</statisticalMethods><TimeRange><startTime>%s</startTime><endTime>%s</endTime></TimeRange>"+
		"<enter>%d</enter><exit>%d</exit><pass>0</pass><regionsID>1</regionsID></peopleCounting>", h.stamp(h.begun), h.stamp(end), h.window[0], h.window[1])})
	h.begun, h.window = end, [2]uint64{}
}

// pushAll pushes what is not taken, and says whether something still is not.
func (h *Hikvision) pushAll(ctx context.Context, client *http.Client) (again bool) {
	for {
		h.mu.Lock()
		if len(h.late) == 0 || h.silent {
			h.mu.Unlock()
			break
		}
		report := h.late[0]
		h.mu.Unlock()
		kept := time.Since(report.end) >= hikAgain
		if !h.push(ctx, client, "PeopleCounting", fmt.Sprintf("%s<isDataRetransmission>%t</isDataRetransmission>", report.xml, kept)) {
			return true
		}
		h.mu.Lock()
		h.late = h.late[1:]
		h.mu.Unlock()
	}
	h.mu.Lock()
	if !h.dirty || h.silent {
		h.mu.Unlock()
		return false
	}
	h.dirty = false
	report := fmt.Sprintf("<peopleCounting><statisticalMethods>realTime</statisticalMethods><RealTime><time>%s</time></RealTime>"+
		"<enter>%d</enter><exit>%d</exit><pass>3</pass><duplicatePeople>0</duplicatePeople><regionsID>1</regionsID></peopleCounting>", h.stamp(time.Now()), h.totals[0], h.totals[1])
	h.mu.Unlock()
	if h.push(ctx, client, "PeopleCounting", report+"<isDataRetransmission>false</isDataRetransmission>") {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dirty = true
	return true
}

// stamp writes a time as the camera does, the hour of its offset with one digit
// where that is enough.
func (h *Hikvision) stamp(t time.Time) string {
	t = t.In(h.opts.Zone)
	_, offset := t.Zone()
	sign := '+'
	if offset < 0 {
		sign, offset = '-', -offset
	}
	hours := fmt.Sprintf("%02d", offset/3600)
	if sign == '-' {
		hours = fmt.Sprint(offset / 3600)
	}
	return t.Format("2006-01-02T15:04:05") + string(sign) + hours + fmt.Sprintf(":%02d", offset%3600/60)
}

// push sends one alert and says whether it was taken.
func (h *Hikvision) push(ctx context.Context, client *http.Client, event, more string) bool {
	h.mu.Lock()
	if h.silent {
		h.mu.Unlock()
		return false
	}
	h.pushes++
	namespace := []string{` xmlns="http://www.hikvision.com/ver20/XMLSchema"`, ` xmlns="urn:psialliance-org"`, ""}[h.pushes%3]
	kind := []string{"application/xml", "text/xml", `application/xml; charset="UTF-8"`}[h.pushes%3]
	text := fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>`+"\r\n"+`<EventNotificationAlert version="2.0"%s><ipAddress>192.0.2.64</ipAddress><portNo>80</portNo><protocol>HTTP</protocol>`+
		"<macAddress>44:19:b6:00:00:01</macAddress><channelID>1</channelID><dateTime>%s</dateTime><activePostCount>%d</activePostCount>"+
		"<eventType>%s</eventType><eventState>active</eventState><eventDescription>%s alarm</eventDescription><channelName>Camera 01</channelName>%s"+
		"<childCounting><enter>9</enter><exit>9</exit></childCounting></EventNotificationAlert>\r\n", namespace, h.stamp(time.Now()), h.pushes, event, event, more)
	h.mu.Unlock()
	body, contentType := withPicture(text, kind, h.opts.Picture)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.opts.URL, bytes.NewReader(body))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body) // so that the connection can be used again
	if resp.StatusCode != http.StatusOK {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken++
	return true
}

// withPicture puts a picture beside the alert.
func withPicture(text, kind string, picture []byte) (body []byte, contentType string) {
	if picture == nil {
		return []byte(text), kind
	}
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, part := range []struct {
		name, file, kind string
		content          []byte
	}{
		{"detectionPicture", "detectionPicture.jpg", "image/jpeg", picture},
		{"PeopleCounting", "PeopleCounting.xml", kind, []byte(text)},
		{"backgroundPicture", "backgroundPicture.jpg", "image/pjpeg", picture},
	} {
		p, err := w.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name="%s"; filename="%s"`, part.name, part.file)},
			"Content-Type":        {part.kind},
		})
		if err == nil {
			_, err = p.Write(part.content)
		}
		if err != nil {
			panic(err) // a Buffer takes everything
		}
	}
	w.Close()
	return b.Bytes(), w.FormDataContentType()
}
