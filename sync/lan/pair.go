package lan

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	codeLife   = 10 * time.Minute
	codeTries  = 5  // wrong secrets before a code is void
	wrongCodes = 20 // wrong codes an address may try within codeLife
	codeName   = 2  // leading characters that only name a code; the rest is secret
)

// crockford is the base32 alphabet without letters that look like digits.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// Roles of a workstation.
const (
	Teller  = "teller"  // sees the cards of its windows
	Manager = "manager" // corrects the number of people; has no window
)

// Pairing is a workstation that may see the cards of its windows.
type Pairing struct {
	ID          string    `json:"id"`
	Workstation string    `json:"workstation"`
	Windows     []string  `json:"windows"`
	Role        string    `json:"role"` // Teller, Manager
	Since       time.Time `json:"since"`
	Hash        string    `json:"hash"` // SHA-256 of the token, base64url
}

func (p Pairing) covers(window string) bool { return slices.Contains(p.Windows, window) }

// Pairings are the workstations that were paired, kept in one file, and the
// one-time codes that are out, kept in memory only.
//
// A code is ten characters: the first two name it, the other eight are the
// secret. A wrong try counts against the one code that it names and, by codeTries,
// voids that one only. An address is shut out after wrongCodes wrong tries: it
// can void four codes within codeLife, not all that are out.
type Pairings struct {
	path    string
	replace func(path string, text []byte) error

	mu     sync.Mutex
	codes  map[string]*code       // by name
	wrong  map[string][]time.Time // wrong tries by address
	loaded time.Time              // modification time of what all holds
	all    []Pairing
}

// code is a one-time code that is out.
type code struct {
	secret  string
	window  string
	role    string
	expires time.Time
	tries   int
}

// NewPairings keeps the paired workstations in a file, which need not exist yet.
// The file is written with replace: as a whole, and durable when it returns.
func NewPairings(path string, replace func(path string, text []byte) error) *Pairings {
	return &Pairings{path: path, replace: replace, codes: map[string]*code{}, wrong: map[string][]time.Time{}}
}

// Offer makes a one-time code for a window, or for a manager without one.
func (ps *Pairings) Offer(window, role string) (text string, expires time.Time) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.expire(time.Now())
	var raw [7]byte // 56 bits make 12 characters, of which ten are used
	for {
		rand.Read(raw[:])
		text = crockford.EncodeToString(raw[:])[:10]
		if ps.codes[text[:codeName]] == nil {
			break
		}
	}
	expires = time.Now().Add(codeLife)
	ps.codes[text[:codeName]] = &code{secret: text[codeName:], window: window, role: role, expires: expires, tries: codeTries}
	return text, expires
}

// expire forgets codes and wrong tries that are too old to matter.
func (ps *Pairings) expire(now time.Time) {
	for name, c := range ps.codes {
		if now.After(c.expires) {
			delete(ps.codes, name)
		}
	}
	for addr, tries := range ps.wrong {
		tries = slices.DeleteFunc(tries, func(t time.Time) bool { return now.Sub(t) > codeLife })
		if len(tries) == 0 {
			delete(ps.wrong, addr)
		} else {
			ps.wrong[addr] = tries
		}
	}
}

var (
	errWrongCode = errors.New("no such code")
	errTooMany   = errors.New("too many wrong codes")
)

// redeem turns a code into a token. Letters may be small, and those that look
// like digits are read as the digits.
func (ps *Pairings) redeem(text, workstation, addr string) (token string, p Pairing, err error) {
	text = strings.NewReplacer("O", "0", "I", "1", "L", "1", "-", "", " ", "").Replace(strings.ToUpper(text))
	ps.mu.Lock()
	defer ps.mu.Unlock()
	now := time.Now()
	ps.expire(now)
	if len(ps.wrong[addr]) >= wrongCodes {
		return "", Pairing{}, errTooMany
	}
	name, secret := "", ""
	if len(text) > codeName {
		name, secret = text[:codeName], text[codeName:]
	}
	c := ps.codes[name]
	if c == nil || subtle.ConstantTimeCompare([]byte(c.secret), []byte(secret)) != 1 {
		ps.wrong[addr] = append(ps.wrong[addr], now)
		if c != nil {
			if c.tries--; c.tries == 0 {
				delete(ps.codes, name)
			}
		}
		return "", Pairing{}, errWrongCode
	}

	token = rand.Text() + rand.Text()
	p = Pairing{
		ID: strings.ToLower(rand.Text()[:8]), Workstation: workstation,
		Windows: []string{}, Role: c.role, Since: now.UTC().Truncate(time.Second), Hash: hash(token),
	}
	if c.window != "" {
		p.Windows = []string{c.window}
	}
	if err := ps.load(); err != nil {
		return "", Pairing{}, err
	}
	if err := ps.save(append(slices.Clone(ps.all), p)); err != nil {
		return "", Pairing{}, err
	}
	delete(ps.codes, name) // only now: what could not be kept was not redeemed
	return token, p, nil
}

func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// load reads the file again when it changed, so that a pairing revoked by hand
// needs no restart.
func (ps *Pairings) load() error {
	info, err := os.Stat(ps.path)
	if errors.Is(err, os.ErrNotExist) {
		ps.all, ps.loaded = nil, time.Time{}
		return nil
	} else if err != nil {
		return fmt.Errorf("read pairings: %w", err)
	}
	if info.ModTime().Equal(ps.loaded) {
		return nil
	}
	text, err := os.ReadFile(ps.path)
	if err != nil {
		return fmt.Errorf("read pairings: %w", err)
	}
	var all []Pairing
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("read pairings %s: %w", ps.path, err)
	}
	ps.all, ps.loaded = all, info.ModTime()
	return nil
}

// save replaces the file as a whole.
func (ps *Pairings) save(all []Pairing) error {
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("encode pairings: %w", err)
	}
	if err := ps.replace(ps.path, append(text, '\n')); err != nil {
		return err
	}
	ps.loaded = time.Time{}
	return ps.load()
}

// stands says whether a pairing still covers a window; one that was taken out of
// the file does not, nor does any while the file cannot be read.
func (ps *Pairings) stands(id, window string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.load() == nil && slices.ContainsFunc(ps.all, func(p Pairing) bool { return p.ID == id && p.covers(window) })
}

// bearer finds the pairing of a token. The error says that the file cannot be
// read: then nobody is let in, and it is not the token's fault.
func (ps *Pairings) bearer(token string) (Pairing, bool, error) {
	want := []byte(hash(token))
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if err := ps.load(); err != nil {
		return Pairing{}, false, err
	}
	for _, p := range ps.all {
		if subtle.ConstantTimeCompare([]byte(p.Hash), want) == 1 {
			return p, true, nil
		}
	}
	return Pairing{}, false, nil
}

// admit gives the pairing of a request's token, or refuses the request and says
// false.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) (Pairing, bool) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	var p Pairing
	if ok {
		var err error
		p, ok, err = s.opt.Pairings.bearer(token)
		s.notePairings(err)
		if err != nil {
			refuse(w, http.StatusServiceUnavailable, "store", "the pairings cannot be read; see the agent's log")
			return Pairing{}, false
		}
	}
	if !ok {
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, "token", "pair this workstation first: hallagent pair --window …")
	}
	return p, ok
}

// notePairings logs when the pairings can no longer be read, and when they can
// again.
func (s *Server) notePairings(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case text == s.pairingsErr:
		return
	case err != nil:
		s.opt.Log.Error("cannot read the pairings: no workstation is let in", "err", err,
			"hint", "correct the file, or remove it and pair the workstations anew")
	default:
		s.opt.Log.Info("the pairings can be read again")
	}
	s.pairingsErr = text
}

func (s *Server) pair(w http.ResponseWriter, r *http.Request) {
	var in struct{ Code, Workstation string }
	if !take(w, r, &in) {
		return
	}
	if n := len(in.Workstation); n == 0 || n > 64 {
		refuse(w, http.StatusBadRequest, "workstation", "name the workstation in at most 64 characters")
		return
	}
	token, p, err := s.opt.Pairings.redeem(in.Code, in.Workstation, remoteAddress(r.RemoteAddr))
	switch {
	case errors.Is(err, errTooMany):
		w.Header().Set("Retry-After", fmt.Sprint(int(codeLife.Seconds())))
		refuse(w, http.StatusTooManyRequests, "too_many", "too many wrong codes from this address; wait ten minutes")
	case errors.Is(err, errWrongCode):
		refuse(w, http.StatusForbidden, "code", "the code is wrong, used or too old; ask for a new one")
	case err != nil:
		s.opt.Log.Error("cannot keep a pairing", "err", err)
		refuse(w, http.StatusInternalServerError, "store", "the pairing cannot be kept; see the agent's log")
	default:
		s.opt.Log.Info("workstation paired", "pairing", p.ID, "window", strings.Join(p.Windows, ","))
		answer(w, struct {
			Token   string   `json:"token"`
			Windows []string `json:"windows"`
			Role    string   `json:"role"`
		}{token, p.Windows, p.Role})
	}
}
