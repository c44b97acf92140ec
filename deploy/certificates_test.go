package deploy_test

import (
	"crypto/x509"
	"encoding/pem"
	"os/exec"
	"testing"

	"github.com/hallagent/hallagent/sync/mqtt/certificates"
)

// TestServerCertificate asks for names and addresses of both kinds.
func TestServerCertificate(t *testing.T) {
	t.Parallel()
	a := certificates.New(t)
	c := exec.Command("sh", "certificates.sh", "server", "broker.example", "192.0.2.10", "2001:db8::5", "::1", "10.example")
	c.Dir = a.Dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	block, _ := pem.Decode([]byte(a.Read("server.pem")))
	if block == nil {
		t.Fatal("server.pem holds nothing")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"broker.example", "10.example", "192.0.2.10", "2001:db8::5", "::1"} {
		if err := cert.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if len(cert.DNSNames) != 2 || len(cert.IPAddresses) != 3 {
		t.Errorf("names %q, addresses %v", cert.DNSNames, cert.IPAddresses)
	}
}
