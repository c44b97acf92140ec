package sim

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

// DahuaOptions says how a camera of that make is set.
type DahuaOptions struct {
	User, Password string // digest login; none if both are empty
	SHA256         bool   // it offers SHA-256 beside MD5
	Close          bool   // it closes the connection behind each answer
	Areas          int    // it counts in so many areas, of which people pass the last; 0: it names none
	Zone           *time.Location
	Start          [2]uint64 // totals it begins with
}

// Dahua is a camera that counts people and shows its totals over HTTP: asked, or
// in a stream with heartbeats. Today's figures fall to zero at its midnight.
type Dahua struct {
	opts DahuaOptions

	mu      sync.Mutex
	totals  [2]uint64
	today   [2]uint64
	day     string
	silent  bool
	asked   uint64
	wrong   int             // logins that were not right
	nonces  map[string]bool // given out and not used
	stale   int             // right answers that are called stale from now on
	changed chan struct{}   // closed at a change
}

// NewDahua returns a camera that nobody has passed yet.
func NewDahua(o DahuaOptions) *Dahua {
	if o.Zone == nil {
		o.Zone = time.FixedZone("UTC+8", 8*3600)
	}
	return &Dahua{opts: o, totals: o.Start, nonces: map[string]bool{}, changed: make(chan struct{})}
}

// Pass lets people through.
func (d *Dahua) Pass(in, out uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn()
	for way, n := range [2]uint64{in, out} {
		d.totals[way] += n
		d.today[way] += n
	}
	d.stir()
}

// turn begins a new day.
func (d *Dahua) turn() {
	if day := time.Now().In(d.opts.Zone).Format(time.DateOnly); day != d.day {
		d.day, d.today = day, [2]uint64{}
	}
}

// Totals is what has been counted.
func (d *Dahua) Totals() (in, out uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.totals[0], d.totals[1]
}

// Reset sets all figures to zero.
func (d *Dahua) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.totals, d.today = [2]uint64{}, [2]uint64{}
	d.stir()
}

// Silence makes the camera count and not answer.
func (d *Dahua) Silence(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silent = on
	d.stir()
}

// Asked is how many summaries were given.
func (d *Dahua) Asked() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

// WrongLogins is how often a login was not right; real cameras lock the account
// after five.
func (d *Dahua) WrongLogins() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wrong
}

// SetPassword changes the password.
func (d *Dahua) SetPassword(to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opts.Password = to
}

// Forget makes the camera call so many right answers stale.
func (d *Dahua) Forget(times int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stale = times
}

func (d *Dahua) stir() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// Serve answers those who come to l until ctx ends or l fails. It closes l.
func (d *Dahua) Serve(ctx context.Context, l net.Listener) error {
	server := http.Server{Handler: d, ErrorLog: log.New(io.Discard, "", 0), BaseContext: func(net.Listener) context.Context { return ctx }}
	server.SetKeepAlivesEnabled(!d.opts.Close)
	defer context.AfterFunc(ctx, func() { server.Close() })()
	err := server.Serve(l)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("serve: %w", err)
}

// ServeHTTP answers as videoStatServer.cgi does.
func (d *Dahua) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	silent := d.silent
	d.mu.Unlock()
	if silent {
		<-r.Context().Done()
		return
	}
	if !d.admits(w, r) {
		return
	}
	q := r.URL.Query()
	if r.URL.Path != "/cgi-bin/videoStatServer.cgi" || q.Get("channel") != "1" {
		http.Error(w, "Error\r\nBad Request!", http.StatusBadRequest)
		return
	}
	switch q.Get("action") {
	case "getSummary":
		w.Header().Set("Content-Type", "text/plain;charset=utf-8")
		text, _ := d.summary()
		io.WriteString(w, text)
	case "attach":
		beat, err := time.ParseDuration(q.Get("heartbeat") + "s")
		if err != nil {
			http.Error(w, "Error", http.StatusBadRequest)
			return
		}
		d.stream(w, r, beat)
	default:
		http.Error(w, "Error", http.StatusNotImplemented)
	}
}

// stream sends the summary at once and at each change.
func (d *Dahua) stream(w http.ResponseWriter, r *http.Request, beat time.Duration) {
	w.Header().Set("Content-Type", "multipart/x-mixed-replace; boundary=myboundary")
	part := func(text string) bool {
		_, err := fmt.Fprintf(w, "--myboundary\r\nContent-Type: text/plain\r\nContent-Length:%d\r\n\r\n%s\r\n", len(text), text)
		w.(http.Flusher).Flush()
		return err == nil
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for ok := true; ok; {
		text, changed := d.summary()
		ok = part(text)
	waiting:
		for ok {
			select {
			case <-changed:
				break waiting
			case <-tick.C:
				d.mu.Lock()
				silent := d.silent
				d.mu.Unlock()
				ok = silent || part("Heartbeat")
			case <-r.Context().Done():
				return
			}
		}
	}
}

// summary is the text as of now, and what is closed when it is old.
func (d *Dahua) summary() (text string, changed chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn()
	d.asked++
	var b strings.Builder
	for area := range max(d.opts.Areas, 1) {
		totals, today := d.totals, d.today
		if d.opts.Areas > 0 {
			fmt.Fprintf(&b, "summary.AreaID=%d\r\n", area+1)
			if area+1 < d.opts.Areas {
				totals, today = [2]uint64{900, 800}, [2]uint64{}
			}
		}
		fmt.Fprint(&b, "summary.Channel=0\r\n")
		for way, name := range []string{"EnteredSubtotal", "ExitedSubtotal"} {
			fmt.Fprintf(&b, "summary.%s.Hour=0\r\nsummary.%[1]s.Today=%[2]d\r\nsummary.%[1]s.Total=%[3]d\r\nsummary.%[1]s.TotalInTimeSection=0\r\n", name, today[way], totals[way])
		}
		fmt.Fprintf(&b, "summary.InsideSubtotal.Total=0\r\nsummary.RuleName=NumberStat\r\nsummary.UTC=%d\r\n", time.Now().Unix())
	}
	return b.String(), d.changed
}

// admits checks the login, and asks for it.
func (d *Dahua) admits(w http.ResponseWriter, r *http.Request) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opts.User == "" {
		return true
	}
	stale := "false"
	if given := r.Header.Get("Authorization"); given != "" {
		p := map[string]string{}
		for _, m := range regexp.MustCompile(`(\w+)="?([^",]*)"?`).FindAllStringSubmatch(given, -1) {
			p[m[1]] = m[2]
		}
		h := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
		if strings.Contains(given, "SHA-256") {
			h = func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
		}
		want := h(h(d.opts.User+":Login to 1A2B3C:"+d.opts.Password) + ":" + p["nonce"] + ":00000001:" + p["cnonce"] + ":auth:" + h(r.Method+":"+r.RequestURI))
		fresh := d.nonces[p["nonce"]]
		delete(d.nonces, p["nonce"])
		switch right := p["response"] == want && p["username"] == d.opts.User; {
		case !right:
			d.wrong++
		case d.stale > 0:
			d.stale--
			stale = "true"
		case fresh:
			return true
		default:
			stale = "true"
		}
	}
	nonce := rand.Text()
	d.nonces[nonce] = true
	for _, algorithm := range []string{"MD5", "SHA-256"} {
		if algorithm == "MD5" || d.opts.SHA256 {
			w.Header().Add("WWW-Authenticate", fmt.Sprintf(`Digest realm="Login to 1A2B3C", qop="auth", nonce="%s", opaque="5ccc069c", algorithm=%s, stale=%s`, nonce, algorithm, stale))
		}
	}
	http.Error(w, "Error\r\nInvalid Authority!", http.StatusUnauthorized)
	return false
}
