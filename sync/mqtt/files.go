package mqtt

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"
)

// files is what the configured files held when they were read.
type files struct {
	content  [4][]byte // authorities, certificate, key, password
	password string
	config   *tls.Config // nil where there is no TLS
	expires  time.Time   // the client's certificate, zero without one
}

func (f *files) equal(g *files) bool {
	for i := range f.content {
		if !bytes.Equal(f.content[i], g.content[i]) {
			return false
		}
	}
	return true
}

// expired says that the client's certificate has no time left.
func (f *files) expired() error {
	if f.expires.IsZero() || time.Now().Before(f.expires) {
		return nil
	}
	return fmt.Errorf("%w on %s", errExpired, f.expires.Format(time.DateTime+" MST"))
}

// load reads the files. Their contents are compared later, not their times: a
// certificate may be put back, or copied with its time.
func (c *Client) load(address *url.URL) (*files, error) {
	f := &files{}
	for i, file := range []struct{ what, path string }{
		{"authorities", c.opts.CAFile}, {"certificate", c.opts.CertFile},
		{"key", c.opts.KeyFile}, {"password", c.opts.PasswordFile},
	} {
		if file.path == "" || i < 3 && address.Scheme != "mqtts" {
			continue
		}
		var err error
		if f.content[i], err = os.ReadFile(file.path); err != nil {
			return nil, fmt.Errorf("%w: read %s: %w", errFile, file.what, err)
		}
	}
	first, _, _ := strings.Cut(string(f.content[3]), "\n")
	f.password = strings.TrimSuffix(first, "\r")
	if address.Scheme != "mqtts" {
		return f, nil
	}
	f.config = &tls.Config{ServerName: address.Hostname(), MinVersion: tls.VersionTLS12}
	if c.opts.CAFile != "" {
		f.config.RootCAs = x509.NewCertPool()
		if !f.config.RootCAs.AppendCertsFromPEM(f.content[0]) {
			return nil, fmt.Errorf("%w: read authorities: no certificate in %s", errFile, c.opts.CAFile)
		}
	}
	if c.opts.CertFile != "" {
		own, err := tls.X509KeyPair(f.content[1], f.content[2])
		if err != nil {
			return nil, fmt.Errorf("%w: read certificate %s: %w", errFile, c.opts.CertFile, err)
		}
		f.config.Certificates, f.expires = []tls.Certificate{own}, own.Leaf.NotAfter
	}
	return f, nil
}

// changed compares the files with those in use. What is wrong with new ones is
// an error: it does not end a connection that works.
func (c *Client) changed(address *url.URL, using *files) (bool, error) {
	now, err := c.load(address)
	if err != nil || now.equal(using) {
		return false, err
	}
	if err := now.expired(); err != nil {
		return false, fmt.Errorf("%w: %w", errFile, err)
	}
	return true, nil
}

var errExpired = errors.New("the client's certificate expired")
