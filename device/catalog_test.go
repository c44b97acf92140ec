package device

import (
	"strings"
	"testing"
)

func TestCatalog(t *testing.T) {
	type driver struct {
		Kind
		n int
	}
	c := Catalog[driver]{{Kind{"modbus", "a"}, 1}, {Kind{"gate-7e7f", "b"}, 2}}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if d, err := c.Find("gate-7e7f"); err != nil || d.n != 2 {
		t.Errorf("Find = %+v, %v", d, err)
	}
	_, err := c.Find("modbux")
	if err == nil || !strings.Contains(err.Error(), `did you mean "modbus"?`) || !strings.Contains(err.Error(), "gate-7e7f, modbus") {
		t.Errorf("unknown kind: %v", err)
	}
	if _, err = c.Find("camera"); err == nil || strings.Contains(err.Error(), "did you mean") {
		t.Errorf("a name like none: %v", err)
	}
	twice := append(c, driver{Kind{"modbus", "c"}, 3})
	if _, err := twice.Find("modbus"); err == nil {
		t.Error("a kind listed twice was found")
	}
	if twice.Check() == nil {
		t.Error("a kind listed twice passed the check")
	}
	if (Catalog[Kind]{{Name: "x"}}).Check() == nil {
		t.Error("a kind without a doc line passed the check")
	}
}
