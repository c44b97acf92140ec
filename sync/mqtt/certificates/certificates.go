// Package certificates makes TLS certificates for tests, with the script that is
// shipped to make them for brokers, so that the script is tested, too. Where
// openssl is not installed tests are skipped, except under CI.
package certificates

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hallagent/hallagent/deploy"
)

// Authority is a folder with ca.pem, and server.pem and server.key of localhost
// and 127.0.0.1.
type Authority struct {
	Dir string
	t   testing.TB
}

// New makes an authority and the server's certificate.
func New(t testing.TB) Authority {
	t.Helper()
	for _, program := range []string{"openssl", "sh"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed: %v", program, err)
			}
			t.Skipf("%s is not installed: %v", program, err)
		}
	}
	a := Authority{t.TempDir(), t}
	if err := os.WriteFile(a.Path("certificates.sh"), deploy.Certificates, 0o700); err != nil {
		t.Fatal(err)
	}
	a.run("ca")
	a.run("server", "localhost", "127.0.0.1")
	return a
}

// Hall makes the certificate of a hall, named area/hall.
func (a Authority) Hall(name string) (certFile, keyFile string) {
	a.t.Helper()
	a.run("hall", name)
	file := a.Path(filepath.Base(filepath.Dir(name)) + "-" + filepath.Base(name))
	return file + ".pem", file + ".key"
}

func (a Authority) run(args ...string) {
	a.t.Helper()
	c := exec.Command("sh", append([]string{"certificates.sh"}, args...)...)
	c.Dir = a.Dir
	if out, err := c.CombinedOutput(); err != nil {
		a.t.Fatalf("certificates.sh %v: %v\n%s", args, err, out)
	}
}

// Path gives the path of a file of the authority.
func (a Authority) Path(name string) string { return filepath.Join(a.Dir, name) }

// CAFile is the authority's own certificate.
func (a Authority) CAFile() string { return a.Path("ca.pem") }

// Read gives the content of a file.
func (a Authority) Read(name string) string {
	a.t.Helper()
	b, err := os.ReadFile(a.Path(name))
	if err != nil {
		a.t.Fatal(err)
	}
	return string(b)
}
