package mqtt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

// authority makes certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string        // its own certificate
	life time.Duration // of the next certificates, from now
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir(), life: time.Hour}
	a.file, _ = a.issue("authority", nil)
	return a
}

// issue makes a certificate and its key, and gives their files; the first one
// made is the authority's own.
func (a *authority) issue(name string, hosts []string) (certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(a.life),
		DNSNames:     hosts,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.cert == nil {
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			a.t.Fatal(err)
		}
		a.key = key
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", "CERTIFICATE", der), a.write(name+".key", "PRIVATE KEY", secret)
}

func (a *authority) write(name, kind string, der []byte) string {
	file := filepath.Join(a.dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

func TestTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	cert, key := ours.issue("localhost", []string{"localhost"})
	b := mosquitto.Start(t, mosquitto.Options{CAFile: ours.file, CertFile: cert, KeyFile: key, Extra: []string{"require_certificate true"}})
	own, ownKey := ours.issue("gateway", nil)

	// The file with the authorities is read at each attempt.
	trusted := filepath.Join(t.TempDir(), "ca.pem")
	install := func(file string) {
		pem, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(trusted+".new", pem, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(trusted+".new", trusted); err != nil {
			t.Fatal(err)
		}
	}
	install(others.file)
	c, _ := run(t, Options{URL: b.URL, CAFile: trusted, CertFile: own, KeyFile: ownKey})
	if s := until(t, c, "reported", func(s Status) bool { return s.Code != "" }); s.Code != CodeTLS || s.Hint == "" {
		t.Errorf("an authority that nobody trusts: %+v", s)
	}
	install(ours.file)
	if err := publish(t, c, "visits", false, "sealed"); err != nil {
		t.Error(err)
	}

	bare, _ := run(t, Options{URL: b.URL, CAFile: trusted, ClientID: "bare"})
	if s := until(t, bare, "reported", func(s Status) bool { return s.Code != "" }); s.Code != CodeTLS {
		t.Errorf("without a certificate: %+v", s)
	}
	broken, _ := run(t, Options{URL: b.URL, CAFile: key, ClientID: "broken"})
	if s := until(t, broken, "reported", func(s Status) bool { return s.Code != "" }); s.Code != CodeFile {
		t.Errorf("a file without a certificate: %+v", s)
	}
}
