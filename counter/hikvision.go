package counter

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/hallagent/hallagent/device"
)

const (
	hikBody = 1 << 20  // bytes of a push with its pictures
	hikXML  = 64 << 10 // bytes of its XML

	hikHead = 10 * time.Second // for the head of a push
	hikRead = 20 * time.Second // for all of it
	hikDone = 30 * time.Second // until it is answered
	hikIdle = time.Minute      // between two on one connection
)

// hikServer takes what Hikvision cameras push over one connection: an
// EventNotificationAlert (Hikvision ISAPI, "People Counting"), alone or as a part
// beside pictures. Of all that a push says, only the figures and their times are
// read; pictures pass by unread.
type hikServer struct {
	ctx  context.Context
	on   *units
	peer string
	bug  any // of our own, by which the serving ended
}

// hearHikvision serves one connection.
func hearHikvision(ctx context.Context, c device.Conn, on *units) error {
	h := &hikServer{ctx: ctx, on: on, peer: device.Peer(c)}
	server := http.Server{
		Handler:                      h,
		ReadHeaderTimeout:            hikHead,
		ReadTimeout:                  hikRead,
		WriteTimeout:                 hikDone,
		IdleTimeout:                  hikIdle,
		MaxHeaderBytes:               16 << 10,
		ErrorLog:                     log.New(io.Discard, "", 0), // it would name what strangers send
		DisableGeneralOptionsHandler: true,
	}
	err := server.Serve(&oneConn{conn: newHTTPConn(c)})
	if h.bug != nil {
		panic(h.bug) // net/http would go on as if nothing had happened
	}
	return fmt.Errorf("serve camera: %w", err)
}

func (h *hikServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if h.bug = recover(); h.bug != nil {
			panic(http.ErrAbortHandler)
		}
	}()
	camera := h.camera(strings.TrimPrefix(r.URL.Path, "/"))
	if camera == nil {
		h.on.stranger(h.peer + " (not the path of a camera)")
		http.NotFound(w, r)
		return
	}
	text, err := readAlert(w, r)
	if err == nil {
		err = h.take(camera, text)
	}
	var refused hikRefusal
	switch {
	case err == nil:
		return // 200
	case errors.As(err, &refused):
		camera.count(func(s *Status) { s.Errors++ })
		http.Error(w, refused.Error(), refused.status)
	default: // it is not stored: the status of the counter tells why
		http.Error(w, "not stored", http.StatusServiceUnavailable)
	}
}

// hikRefusal is what a camera is told of a push that cannot be used.
type hikRefusal struct {
	status int
	cause  string
}

func (r hikRefusal) Error() string { return r.cause }

// camera finds whose path it is, without telling by its time how much of the path
// was right.
func (h *hikServer) camera(path string) *member {
	var fit []*member
	said := sha256.Sum256([]byte(path))
	for _, m := range h.on.ear.members {
		secret, err := readSecret(m.config.Settings.(*CameraSettings).SecretFile, shortestSecret)
		if err != nil {
			m.set(device.Waiting, "refused", fmt.Errorf("read secret: %w", err), "put the path that is entered in the camera into secret_file, readable for the user of hallagent")
			continue
		}
		if want := sha256.Sum256([]byte(secret)); subtle.ConstantTimeCompare(said[:], want[:]) == 1 {
			fit = append(fit, m)
		}
	}
	if len(fit) == 1 {
		return fit[0]
	}
	for _, m := range fit { // whose figures they are cannot be told
		m.set(device.Waiting, "refused", errors.New("another camera has the same secret"), "give each camera a path of its own, in its secret_file and in the camera")
	}
	return nil
}

// readAlert reads the XML of a push, and what else there is to its end. A push
// without a body is a camera's test of its settings.
func readAlert(w http.ResponseWriter, r *http.Request) (text []byte, err error) {
	tooLong := hikRefusal{http.StatusRequestEntityTooLarge, "too long"}
	if r.ContentLength > hikBody {
		return nil, tooLong
	}
	body := http.MaxBytesReader(w, r.Body, hikBody)
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && r.Header.Get("Content-Type") != "" {
		return nil, hikRefusal{http.StatusUnsupportedMediaType, "no content type"}
	}
	switch {
	case strings.HasPrefix(kind, "multipart/"):
		text, err = xmlPart(multipart.NewReader(body, params["boundary"]))
	case kind == "" || isXML(kind):
		text, err = io.ReadAll(io.LimitReader(body, hikXML+1))
	default:
		return nil, hikRefusal{http.StatusUnsupportedMediaType, "not XML"}
	}
	if err == nil {
		_, err = io.Copy(io.Discard, body)
	}
	if _, over := errors.AsType[*http.MaxBytesError](err); over || len(text) > hikXML {
		return nil, tooLong
	}
	if err != nil {
		return nil, hikRefusal{http.StatusBadRequest, "not readable"}
	}
	return text, nil
}

func isXML(mediaType string) bool { return mediaType == "application/xml" || mediaType == "text/xml" }

// xmlPart reads the part that is XML; others are passed over.
func xmlPart(parts *multipart.Reader) ([]byte, error) {
	for {
		p, err := parts.NextRawPart()
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		kind, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type")) // a part without one may be named .xml
		if isXML(kind) || kind == "" && strings.HasSuffix(p.FileName(), ".xml") {
			return io.ReadAll(io.LimitReader(p, hikXML+1))
		}
	}
}

// take acts on what a camera says.
func (h *hikServer) take(camera *member, text []byte) error {
	settings := camera.config.Settings.(*CameraSettings)
	var figures *Reading
	if len(bytes.TrimSpace(text)) > 0 {
		alert, err := parseHik(text)
		if err == nil {
			figures, err = settings.hikReading(alert, time.Now())
		}
		if err != nil {
			return hikRefusal{http.StatusBadRequest, "not an alert of a camera"} // the error would repeat what it says
		}
	}
	h.on.heard()
	if figures != nil {
		if err := camera.take(h.ctx, *figures); err != nil {
			return err
		}
	}
	camera.alive("", "")
	if figures == nil && settings.Statistical != methodTimerange {
		camera.again(h.ctx)
	}
	return nil
}

// hikAlert is what is read of an alert, whatever its namespace: one camera was
// seen to use three.
type hikAlert struct {
	XMLName xml.Name `xml:"EventNotificationAlert"`
	Type    string   `xml:"eventType"`
	Channel string   `xml:"channelID"`
	Again   string   `xml:"isDataRetransmission"`
	Count   struct {
		Method string `xml:"statisticalMethods"` // realTime: totals; timeRange, signalTrigger: of a period
		Start  string `xml:"TimeRange>startTime"`
		End    string `xml:"TimeRange>endTime"`
		Enter  string `xml:"enter"`
		Exit   string `xml:"exit"`
		Region string `xml:"regionsID"`
	} `xml:"peopleCounting"`
}

func parseHik(text []byte) (a hikAlert, err error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil } // all that counts is ASCII
	return a, d.Decode(&a)
}

// hikReading makes a reading of an alert; nil if it has no figures that count:
// other events, the other kind of report, another channel or region, and totals
// that are sent late, which say less than those that came meanwhile.
func (s *CameraSettings) hikReading(a hikAlert, now time.Time) (*Reading, error) {
	window := s.Statistical == methodTimerange
	method := "realTime"
	if window {
		method = "timeRange"
	}
	again := strings.TrimSpace(a.Again) == "true"
	switch {
	case !strings.EqualFold(strings.TrimSpace(a.Type), "PeopleCounting"),
		!strings.EqualFold(strings.TrimSpace(a.Count.Method), method),
		!fitsPlace(s.Channel, strings.TrimSpace(a.Channel)), !fitsPlace(s.Area, strings.TrimSpace(a.Count.Region)),
		again && !window:
		return nil, nil
	}
	in, out, err := figures(a.Count.Enter, a.Count.Exit)
	if err != nil {
		return nil, err
	}
	r := &Reading{At: now, In: in, Out: out}
	if !window {
		return r, nil
	}
	start, err := s.hikTime(a.Count.Start)
	if err != nil {
		return nil, err
	}
	end, err := s.hikTime(a.Count.End)
	if err != nil {
		return nil, err
	}
	r.Value = Delta
	if r.Period = end.Sub(start); r.Period <= 0 || r.Period > 24*time.Hour {
		return nil, fmt.Errorf("a period of %v", r.Period)
	}
	r.place(end, start.UTC().Format(time.RFC3339)+"/"+end.UTC().Format(time.RFC3339), again)
	return r, nil
}

// hourOffset is an offset whose hour has one digit, as in -5:00.
var hourOffset = regexp.MustCompile(`([+-])(\d:\d\d)$`)

func (s *CameraSettings) hikTime(text string) (time.Time, error) {
	text = hourOffset.ReplaceAllString(strings.TrimSpace(text), "${1}0$2")
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05-0700"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	loc, err := zone(s.Timezone)
	if err != nil {
		return time.Time{}, err
	}
	return time.ParseInLocation("2006-01-02T15:04:05", text, loc)
}
