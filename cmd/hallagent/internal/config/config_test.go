package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/deploy"
	"github.com/hallagent/hallagent/idcard"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden holds what an installer reads for each kind of mistake.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, problems, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			got := problems.Print(filepath.Base(file))
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			for _, p := range problems {
				if p.Line < 1 || p.Column < 1 || p.Cause == "" {
					t.Errorf("%+v has no place or no cause", p)
				}
			}
		})
	}
}

// TestSample reads the configuration that is shipped.
func TestSample(t *testing.T) {
	c, problems := Parse(deploy.Sample)
	if len(problems) > 0 {
		t.Fatalf("the sample has problems:\n%s", problems.Print("hallagent.yaml"))
	}
	if with, problems := Parse(bytes.Replace(deploy.Sample, []byte("# photo:"), []byte("photo:"), 1)); len(problems) > 0 || len(with.Photo.Decoder) != 2 || with.Photo.Limit != 5*time.Second {
		t.Errorf("with its photo decoder it is %+v:\n%s", with.Photo, problems.Print("hallagent.yaml"))
	}
	own := bytes.ReplaceAll(bytes.Replace(deploy.Sample, []byte("\n  # - id: text-6"), []byte("\n  - id: text-6"), 1), []byte("\n  #   "), []byte("\n    "))
	with, problems := Parse(bytes.Replace(own, []byte("id: text-5, kind: line, line: display"), []byte("id: text-5, kind: line, line: east-gates"), 1))
	if text, ok := with.Counters[len(with.Counters)-1].Settings.(*counter.Text); len(problems) > 0 || !ok || len(text.Patterns) != 2 || text.Expect != 5*time.Minute {
		t.Errorf("with its patterns it has %+v:\n%s", text, problems.Print("hallagent.yaml"))
	}
	if len(c.Readers) != 3 || len(c.Counters) != len(counter.Kinds())+2 || len(c.Doors) != 3 {
		t.Errorf("%d readers, %d counters, %d doors", len(c.Readers), len(c.Counters), len(c.Doors))
	}
	if c.Readers[0].Window != "05" || c.Readers[0].Poll != 200*time.Millisecond {
		t.Errorf("first reader is %+v", c.Readers[0])
	}
	m, ok := c.Counters[1].Settings.(*counter.Modbus)
	if !ok || m.Station != 1 || m.Map.Out.Address != 2 || m.Map.Out.Order != "high" {
		t.Errorf("second counter has settings %+v", c.Counters[1].Settings)
	}
	if c.Visits.MaxSize != 256<<20 || c.Audit.Keep != 183*24*time.Hour {
		t.Errorf("size %d, keep %v", c.Visits.MaxSize, c.Audit.Keep)
	}
}

// TestUnknownKeys puts a key that does not exist into every mapping.
func TestUnknownKeys(t *testing.T) {
	for _, c := range []struct{ text, key, hint string }{
		{"hal: {}", "hal", `did you mean "hall"?`},
		{"hall: {nmae: x}", "hall.nmae", `did you mean "name"?`},
		{"lines: [{id: a, ulr: x}]", "lines[0].ulr", `did you mean "url"?`},
		{"counters: [{id: a, kind: modbus, statoin: 1}]", "counters[0].statoin", `did you mean "station"?`},
		{"counters: [{id: a, kind: modbus, map: {inn: {}}}]", "counters[0].map.inn", `did you mean "in"?`},
		{"lan: {xyzzy: 1}", "lan.xyzzy", "known here: hosts, listen, origins"},
	} {
		_, problems := Parse([]byte(c.text))
		found := false
		for _, p := range problems {
			if p.Key == c.key && p.Cause == "unknown key" {
				found = true
				if p.Hint != c.hint {
					t.Errorf("%s: hint %q, want %q", c.text, p.Hint, c.hint)
				}
			}
		}
		if !found {
			t.Errorf("%s: %s is not reported:\n%s", c.text, c.key, problems.Print("f"))
		}
	}
}

// TestAddresses gives addresses that nothing can listen on or connect to.
func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		key, text string
		good      bool
	}{
		{"lan.listen[0]", `lan: {listen: ["127.0.0.1:8080"]}`, true},
		{"lan.listen[0]", `lan: {listen: ["127.0.0.1:99999"]}`, false},
		{"lan.listen[0]", `lan: {listen: ["127.0.0.1:0"]}`, false},
		{"lan.listen[0]", `lan: {listen: ["127.0.0.1:web"]}`, false},
		{"lan.listen[0]", `lan: {listen: ["127.0.0.1:+80"]}`, false},
		{"lan.listen[0]", `lan: {listen: ["127.0.0.1"]}`, false},
		{"broker.url", `broker: {url: "mqtts://broker.example"}`, true},
		{"broker.url", `broker: {url: "mqtts://broker.example:8883/"}`, true},
		{"broker.url", `broker: {url: "mqtts://broker.example:88833"}`, false},
		{"broker.url", `broker: {url: "mqtts://broker.example:0"}`, false},
		{"broker.url", `broker: {url: "mqtts://broker.example/hall"}`, false},
		{"broker.url", `broker: {url: "mqtts://:8883"}`, false},
	} {
		_, problems := Parse([]byte(c.text))
		if named(problems.Errors(), c.key) == c.good {
			t.Errorf("%s gives\n%s", c.text, problems.Print("f"))
		}
	}
}

// TestNumbers gives what Go takes for a number and what a person means by one.
func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		key, text string
		good      bool
	}{
		{"occupancy.staff", "occupancy: {staff: 1.5}", true},
		{"occupancy.staff", "occupancy: {staff: 010}", true},
		{"occupancy.staff", "occupancy: {staff: .nan}", false},
		{"occupancy.staff", "occupancy: {staff: NaN}", false},
		{"occupancy.staff", "occupancy: {staff: .inf}", false},
		{"occupancy.staff", "occupancy: {staff: Inf}", false},
		{"occupancy.staff", "occupancy: {staff: -Inf}", false},
		{"occupancy.staff", "occupancy: {staff: 1e999}", false},
		{"occupancy.scale", "occupancy: {scale: NaN}", false},
		{"counters[0].rate", "counters: [{id: k, kind: modbus, rate: NaN}]", false},
		{"hall.capacity", "hall: {capacity: 0x96}", true},
		{"hall.capacity", "hall: {capacity: 1_50}", false},
	} {
		_, problems := Parse([]byte(c.text))
		if named(problems.Errors(), c.key) == c.good {
			t.Errorf("%s gives\n%s", c.text, problems.Print("f"))
		}
	}
	for text, want := range map[string]int{"0150": 150, "010": 10, "08": 8, "150": 150} {
		if c, problems := Parse([]byte("hall: {capacity: " + text + "}")); c.Hall.Capacity != want {
			t.Errorf("capacity %s is %d:\n%s", text, c.Hall.Capacity, problems.Print("f"))
		}
	}
	c, _ := Parse([]byte("counters: [{id: k, kind: modbus, map: {in: {address: 0100}}}]"))
	if m, ok := c.Counters[0].Settings.(*counter.Modbus); !ok || m.Map.In.Address != 100 {
		t.Errorf("address 0100 gives %+v", c.Counters[0].Settings)
	}
}

func named(problems Problems, key string) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Key == key })
}

func TestHours(t *testing.T) {
	zone := time.FixedZone("CST", 8*3600)
	c, problems := Parse([]byte(`hall: {area: "371003", id: s, name: n, capacity: 1, hours: {mon: "08:30-12:00,13:30-17:00", sun: closed, closed: ["2026-11-30"], open: ["2026-11-22"]}}
broker: {url: "mqtt://localhost"}`))
	if errs := problems.Errors(); len(errs) > 0 {
		t.Fatal(errs.Print("f"))
	}
	for _, k := range []struct {
		at   string
		open bool
	}{
		{"2026-11-23 08:29", false}, {"2026-11-23 08:30", true}, {"2026-11-23 11:59", true},
		{"2026-11-23 12:00", false}, {"2026-11-23 13:30", true}, {"2026-11-23 17:00", false},
		{"2026-11-24 09:00", false}, // a weekday without hours
		{"2026-11-30 09:00", false}, // a Monday that is closed
		{"2026-11-22 09:00", true},  // a Sunday that is open, with the hours of Monday
	} {
		at, err := time.ParseInLocation("2006-01-02 15:04", k.at, zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Hall.Hours.IsOpen(at); got != k.open {
			t.Errorf("at %s open is %v", k.at, got)
		}
	}
}

// TestHoursOnce gives a day or a date twice; which one counts would be a guess.
func TestHoursOnce(t *testing.T) {
	for text, key := range map[string]string{
		`{mon: "08:30-12:00", monday: "08:30-17:00"}`:                  "hall.hours.monday",
		`{mon: "08:30-12:00", mon: "08:30-17:00"}`:                     "hall.hours.mon",
		`{closed: ["2026-10-01"], open: ["2026-10-02", "2026-10-01"]}`: "hall.hours.open[1]",
		`{open: ["2026-10-01", "2026-10-01"]}`:                         "hall.hours.open[1]",
	} {
		if _, problems := Parse([]byte("hall: {hours: " + text + "}")); !named(problems.Errors(), key) {
			t.Errorf("%s gives\n%s", text, problems.Print("f"))
		}
	}
	for text, missing := range map[string]bool{
		"hall: {id: s}":                         true,
		"hall:\n  hours:\n":                     true,
		"hall: {hours: {}}":                     true,
		`hall: {hours: "08:30-12:00"}`:          false,
		`hall: {hours: {open: ["2026-10-01"]}}`: false,
		`hall: {huors: "08:30-12:00"}`:          false, // said already
	} {
		if _, problems := Parse([]byte(text)); named(problems, "hall.hours") != missing {
			t.Errorf("%s gives\n%s", text, problems.Print("f"))
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"256MiB": 256 << 20, "1 GiB": 1 << 30, "65536": 65536, "4KiB": 4096} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q gives %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1MiB", "5MB", "9999999999GiB", "12 34"} {
		var s Size
		if s.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q gives %d", text, s)
		}
	}
}

// FuzzParse makes sure that no text ends the program and that every refusal
// says where.
func FuzzParse(f *testing.F) {
	f.Add(deploy.Sample)
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		_, problems := Parse(text)
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 {
				t.Errorf("%+v has no place", p)
			}
		}
	})
}

// TestSampleShowsEveryKind lets nobody add a kind without an example of it.
func TestSampleShowsEveryKind(t *testing.T) {
	c, _ := Parse(deploy.Sample)
	for _, kind := range idcard.Kinds().Names() {
		if !slices.ContainsFunc(c.Readers, func(r Reader) bool { return r.Kind == kind }) {
			t.Errorf("no reader of kind %s in the sample", kind)
		}
	}
	for _, kind := range counter.Kinds().Names() {
		if !slices.ContainsFunc(c.Counters, func(k Counter) bool { return k.Kind == kind }) {
			t.Errorf("no counter of kind %s in the sample", kind)
		}
	}
}
