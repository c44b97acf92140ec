package counter

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
)

// errRefused says that a login is not accepted. To try again makes it worse: many
// cameras lock an account after some tries.
var errRefused = errors.New("the login is refused")

// login is a user of a device that wants HTTP digest access authentication
// (RFC 7616; without qop, RFC 2069).
type login struct{ user, password string }

// get asks for a URL, once without the login to get a challenge, and once with
// it. The body of the response is the caller's to close.
func (l login) get(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	resp, err := getWith(ctx, client, url, "")
	for tries := 0; err == nil && resp.StatusCode == http.StatusUnauthorized; tries++ {
		c, found := findChallenge(resp.Header.Values("WWW-Authenticate"))
		discard(resp)
		switch {
		case !found:
			return nil, fmt.Errorf("%w: the device asks for no digest login", errRefused)
		case tries > 0 && !(tries == 1 && c["stale"] == "true"):
			return nil, errRefused
		}
		resp, err = getWith(ctx, client, url, l.answer(c, http.MethodGet, resp.Request.URL.RequestURI(), rand.Text()))
	}
	return resp, err
}

func getWith(ctx context.Context, client *http.Client, url, authorization string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return client.Do(req)
}

// discard ends a response of which nothing is wanted, so that its connection can
// be used again.
func discard(resp *http.Response) {
	io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) // what cannot be read ends the connection
	resp.Body.Close()
}

// challenge holds the parameters of a WWW-Authenticate header; names are in small
// letters, and stale and algorithm are cased as below.
type challenge map[string]string

const (
	digestMD5    = "MD5"
	digestSHA256 = "SHA-256"
)

// findChallenge chooses the best that we can answer.
func findChallenge(headers []string) (best challenge, found bool) {
	for _, h := range headers {
		c := parseChallenge(h)
		if c == nil || c["nonce"] == "" || c["qop"] != "" && !hasWord(c["qop"], "auth") {
			continue
		}
		if c["algorithm"] == digestSHA256 || c["algorithm"] == digestMD5 && !found {
			best, found = c, true
		}
	}
	return best, found
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(w), word) {
			return true
		}
	}
	return false
}

// parseChallenge reads one header, nil if it is none of a digest.
func parseChallenge(header string) challenge {
	const scheme = "digest "
	if len(header) < len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return nil
	}
	c := challenge{"algorithm": digestMD5}
	for rest := header[len(scheme):]; ; {
		rest = strings.TrimLeft(rest, " \t,")
		name, value, ok := strings.Cut(rest, "=")
		if name = strings.ToLower(strings.TrimSpace(name)); !ok || strings.ContainsAny(name, " \t\"") {
			break // the end, or another scheme in the same header
		}
		value = strings.TrimLeft(value, " \t")
		if strings.HasPrefix(value, `"`) {
			value, rest = unquote(value[1:])
		} else {
			value, rest, _ = strings.Cut(value, ",")
			value = strings.TrimSpace(value)
		}
		c[name] = value
	}
	c["algorithm"] = strings.ToUpper(c["algorithm"])
	c["stale"] = strings.ToLower(c["stale"])
	return c
}

// unquote reads a quoted string behind its first mark.
func unquote(s string) (value, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// answer makes the Authorization header for the first use of a challenge.
func (l login) answer(c challenge, method, uri, cnonce string) string {
	h := func(parts ...string) string {
		var sum hash.Hash = md5.New()
		if c["algorithm"] == digestSHA256 {
			sum = sha256.New()
		}
		io.WriteString(sum, strings.Join(parts, ":"))
		return hex.EncodeToString(sum.Sum(nil))
	}
	const count = "00000001"
	secret, request := h(l.user, c["realm"], l.password), h(method, uri)
	response := h(secret, c["nonce"], request)
	if c["qop"] != "" {
		response = h(secret, c["nonce"], count, cnonce, "auth", request)
	}
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace
	header := fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=%s`,
		quote(l.user), quote(c["realm"]), quote(c["nonce"]), uri, response, c["algorithm"])
	if c["opaque"] != "" {
		header += fmt.Sprintf(`, opaque="%s"`, quote(c["opaque"]))
	}
	if c["qop"] != "" {
		header += fmt.Sprintf(`, qop=auth, nc=%s, cnonce="%s"`, count, cnonce)
	}
	return header
}
