package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hallagent/hallagent"

// rule is what one folder may import of ours and of third parties. Every
// import goes down; a folder that is not in the table may not hold Go files.
type rule struct {
	ours  []string
	third []string
}

const all = "*" // everything of ours

var layout = map[string]rule{
	"device":                  {},
	"device/serial":           {ours: []string{"device"}, third: []string{"go.bug.st/serial", "golang.org/x/sys"}},
	"device/transcript":       {},
	"device/sim":              {ours: []string{"device", "device/transcript", "idcard", "counter"}, third: []string{"golang.org/x/sys"}},
	"device/sim/visitors":     {},
	"idcard":                  {ours: []string{"device"}, third: []string{"golang.org/x/text"}},
	"idcard/photo":            {third: []string{"golang.org/x/sys", "golang.org/x/image", "github.com/landlock-lsm/go-landlock"}},
	"counter":                 {ours: []string{"device"}},
	"counter/occupancy":       {ours: []string{"counter"}},
	"counter/occupancy/study": {ours: []string{"counter", "counter/occupancy", "device/sim/visitors"}},

	"sync/outbox":            {third: []string{"go.etcd.io/bbolt", "golang.org/x/sys"}},
	"sync/outbox/disk":       {third: []string{"github.com/hanwen/go-fuse"}}, // that fails, for tests only
	"sync/uplink":            {ours: []string{"sync/outbox"}},
	"sync/mqtt":              {third: []string{"github.com/eclipse/paho.mqtt.golang"}},
	"sync/mqtt/certificates": {ours: []string{"deploy"}},                           // for tests only
	"sync/mqtt/mosquitto":    {},                                                   // a real broker, for tests only
	"sync/mqtt/nats":         {ours: []string{"deploy", "sync/mqtt/certificates"}}, // a real cluster, for tests only
	"sync/wire":              {ours: []string{"idcard", "counter", "counter/occupancy"}},
	"sync/lan":               {ours: []string{"device", "idcard", "counter", "counter/occupancy", "sync/wire"}},

	"central/store":          {third: []string{"modernc.org/sqlite", "github.com/jackc/pgx/v5"}},
	"central/inbox":          {ours: []string{"sync/wire", "sync/mqtt", "central/store"}},
	"central/store/postgres": {third: []string{"github.com/jackc/pgx/v5"}}, // a real server, for tests only

	"cmd/hallagent": {
		ours:  []string{all},
		third: []string{"github.com/alecthomas/kong"},
	},
	"cmd/hallagent/internal/agent": {ours: []string{all}, third: []string{"golang.org/x/sys"}},
	"cmd/hallagent/internal/config": {
		ours:  []string{"device", "idcard", "counter"},
		third: []string{"github.com/goccy/go-yaml"},
	},
	"cmd/hallagent/internal/metrics": {
		ours: []string{"device", "idcard", "counter", "counter/occupancy", "sync/wire", "sync/outbox",
			"sync/uplink", "sync/mqtt", "sync/lan"},
		third: []string{"github.com/prometheus/client_golang"},
	},
	"deploy": {},

	"cmd/hallagent/demo": {ours: []string{all}, third: []string{"github.com/mochi-mqtt/server"}},
}

// top is what may stand at the top of the tree, beside dot-files.
var top = []string{"cmd", "device", "idcard", "counter", "sync", "deploy", "docs", "central",
	"go.mod", "go.sum", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "bin", "dist"}

// forbidden names say nothing about what is inside.
var forbidden = []string{"util", "utils", "common", "types", "models", "helpers", "pkg", "misc"}

const longest = 500 // lines of a file

// TestLayout reads the tree itself: going through `go list` would let the test
// cache hide a change.
func TestLayout(t *testing.T) {
	root := filepath.Join("..", "..")
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(top, e.Name()) {
			t.Errorf("%s: nothing of that name belongs at the top", e.Name())
		}
	}
	documented := map[string]string{} // folder -> file with its package comment
	seen := map[string]bool{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "dist") {
				return fs.SkipDir
			}
			if slices.Contains(forbidden, name) {
				t.Errorf("%s: a folder is named by its one idea", path)
			}
			return nil
		}
		if strings.HasSuffix(name, ".go") {
			folder, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			folder = filepath.ToSlash(folder)
			seen[folder] = true
			for _, problem := range checkFile(folder, path, documented) {
				t.Errorf("%s: %s", path, problem)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for folder := range seen {
		if documented[folder] == "" {
			t.Errorf("%s: no package comment", folder)
		}
	}
	for folder := range layout {
		if !seen[folder] {
			t.Errorf("%s: in the table, not in the tree", folder)
		}
	}
}

func checkFile(folder, path string, documented map[string]string) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	r, ok := layout[folder]
	if !ok {
		say("its folder is not in the layout table")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		say("%v", err)
		return problems
	}
	if n := strings.Count(string(text), "\n"); n > longest {
		say("%d lines, more than %d", n, longest)
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments)
	if err != nil {
		say("%v", err)
		return problems
	}
	test := strings.HasSuffix(path, "_test.go")
	if f.Doc != nil && !test {
		if first := documented[folder]; first != "" {
			say("package comment stands in %s already", filepath.Base(first))
		}
		documented[folder] = path
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			say("init() runs behind the reader's back")
		}
	}
	if test {
		return problems // a test may use the real part of any floor
	}
	for _, i := range f.Imports {
		if why := r.refuses(strings.Trim(i.Path.Value, `"`)); why != "" {
			say("imports %s: %s", i.Path.Value, why)
		}
	}
	return problems
}

// refuses says why a folder may not import a path; "" when it may.
func (r rule) refuses(path string) string {
	if ours, ok := strings.CutPrefix(path, module+"/"); ok {
		if slices.Contains(r.ours, all) || slices.Contains(r.ours, ours) {
			return ""
		}
		return "not below this folder"
	}
	first, _, _ := strings.Cut(path, "/")
	if !strings.Contains(first, ".") {
		return "" // the standard library
	}
	if slices.ContainsFunc(r.third, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") }) {
		return ""
	}
	return "this library is not for this folder"
}

// TestLayoutSees makes sure the rules refuse what they are there to refuse.
func TestLayoutSees(t *testing.T) {
	for _, c := range []struct{ folder, path string }{
		{"idcard", module + "/counter"},
		{"counter", module + "/idcard"},
		{"idcard", module + "/sync/outbox"},
		{"device", module + "/idcard"},
		{"sync/outbox", module + "/idcard"},
		{"sync/uplink", "go.etcd.io/bbolt"},
		{"device", "golang.org/x/sys/unix"},
	} {
		if layout[c.folder].refuses(c.path) == "" {
			t.Errorf("%s may import %s", c.folder, c.path)
		}
	}
	if why := layout["sync/outbox"].refuses("go.etcd.io/bbolt/errors"); why != "" {
		t.Errorf("sync/outbox may not use a package of bbolt: %s", why)
	}
}
