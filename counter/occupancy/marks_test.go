package occupancy

import (
	"bytes"
	"testing"
)

// disk holds marks as a store does.
type disk map[string][]byte

func (d disk) store(e *Estimator) {
	for name, b := range e.Marks() {
		d[name] = b
	}
}

func (d disk) mark(name string) ([]byte, error) { return d[name], nil }

func (d disk) load(t *testing.T, e *Estimator) {
	t.Helper()
	if err := e.Restore(d.mark); err != nil {
		t.Fatal(err)
	}
}

func TestBadState(t *testing.T) {
	for _, bad := range []string{"", "[]", `{"v":1}`, `{"v":3}`, "null", `{"v":2}`} {
		for _, name := range []string{"state", "day/3"} {
			e := New(hall(1))
			if err := e.Restore(disk{name: []byte(bad)}.mark); err == nil {
				t.Errorf("took %q for %s", bad, name)
			}
		}
	}
	if err := New(hall(1)).Restore(disk{}.mark); err != nil {
		t.Errorf("nothing stored: %v", err)
	}
}

// Whatever was stored is refused, or is a state to go on from.
func FuzzRestore(f *testing.F) {
	e := New(hall(1.2))
	e.Apply(pass("1", at(9, 3), 12, 1))
	e.Apply(pass("2", at(10, 3), 3, 9))
	d := disk{}
	d.store(e)
	f.Add(d["state"], d[slotName(slot("2026-03-02"))])
	f.Add([]byte(`{"v":2}`), []byte(nil))
	f.Fuzz(func(t *testing.T, state, curve []byte) {
		d := disk{"state": state, "day/1": curve}
		if len(curve) == 0 {
			delete(d, "day/1")
		}
		e := New(hall(1.2))
		if e.Restore(d.mark) != nil {
			return
		}
		for _, now := range []int{9, 11, 30, 50} {
			e.Apply(pass("1", at(now, 7), 3, 1))
			read(e, at(now, 7))
			if s := e.Snapshot(at(now, 7)); s.People != nil {
				people(t, s)
			}
			e.Day("2026-03-02")
		}
		again, marks := New(hall(1.2)), disk{}
		marks.store(e)
		marks.load(t, again)
		if !bytes.Equal(again.Marks()["state"], e.Marks()["state"]) {
			t.Fatal("another state after a restart")
		}
	})
}
