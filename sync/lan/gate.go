package lan

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// gate lets a request through when its Host is one of ours and its Origin, if
// any, is our own or listed. The Host check is what defeats DNS rebinding: a
// foreign page can make its own name point at us, but it cannot make the
// browser send ours.
func (s *Server) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		if !s.ourHost(r.Host) {
			refuse(w, http.StatusMisdirectedRequest, "host", "this host name is not configured in lan.hosts")
			return
		}
		origin := r.Header.Get("Origin")
		switch {
		case slices.Contains(s.opt.Origins, origin):
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Cross-Origin-Resource-Policy", "cross-origin")
			h.Add("Vary", "Origin")
			if r.Method == http.MethodOptions {
				h.Set("Access-Control-Allow-Methods", "GET, POST")
				h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
				if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
					h.Set("Access-Control-Allow-Private-Network", "true")
				}
				w.WriteHeader(http.StatusNoContent)
				return
			}
		case origin != "" && origin != "http://"+r.Host:
			refuse(w, http.StatusForbidden, "origin", "this origin is not configured in lan.origins")
			return
		case origin == "" && foreign(r):
			refuse(w, http.StatusForbidden, "origin", "a page of another site may not call this")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// foreign says that a browser names another site as the caller without an
// Origin. Following a link to a page is allowed, fetching behind the back is not.
func foreign(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "cross-site" && site != "same-site" {
		return false
	}
	return r.Header.Get("Sec-Fetch-Mode") != "navigate" || strings.HasPrefix(r.URL.Path, "/v1/")
}

// ourHost says whether a Host header names us: an address or name we listen on,
// or a configured one.
func (s *Server) ourHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if slices.ContainsFunc(s.opt.Hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		return true
	}
	for _, a := range s.opt.Listen {
		listen, _, err := net.SplitHostPort(a)
		if err != nil {
			continue
		}
		if strings.EqualFold(listen, host) {
			return true
		}
		if ip, err := netip.ParseAddr(listen); err == nil && ip.IsLoopback() && host == "localhost" {
			return true
		}
	}
	return false
}
