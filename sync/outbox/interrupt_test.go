package outbox

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A power cut at any step of a salvage leaves a store that starts, with all that
// could be read.
func TestInterruptedSalvage(t *testing.T) {
	or := newOriginal(t)
	page := os.Getpagesize()
	damaged := bytes.Clone(or.file)
	clear(damaged[page : 2*page])
	dir := t.TempDir()
	path := filepath.Join(dir, "visits.db")
	write := func(name string, b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, damaged)
	o, stop := startStop(t, Options{Path: path})
	want := len(all(t, o))
	stop()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, lay := range map[string]func(){
		"half written":   func() { write(path, damaged); write(path+salvageName, whole[:len(whole)/2]) },
		"before renames": func() { write(path, damaged); write(path+salvagedName, whole) },
		"between them":   func() { write(path+salvagedName, whole) },
		"half a copy":    func() { write(path, whole); write(path+compactName, whole[:page*3]) },
	} {
		t.Run(name, func(t *testing.T) {
			left, err := filepath.Glob(path + "*")
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range left {
				os.Remove(f)
			}
			lay()
			epochs := newEpoch()
			epochs("")
			o, stop := startStop(t, Options{Path: path, NewEpoch: epochs})
			defer stop()
			if got := len(all(t, o)); got != want {
				t.Errorf("%d records and gaps, not %d: %+v", got, want, o.Status())
			}
			for _, name := range []string{salvageName, salvagedName, compactName} {
				if exists(path + name) {
					t.Errorf("%s stays", name)
				}
			}
			balance(t, o)
		})
	}
}
