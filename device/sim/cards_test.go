package sim

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// vectors are the project's test vectors, which idcard keeps.
type vectors struct {
	Exchanges []struct{ Name, Request, Response string }
	Cards     []struct {
		ID, Kind string
		TextHex  string `json:"text_hex"`
		PhotoHex string `json:"photo_hex"`
		Expected map[string]any
	}
	Fingerprints []struct {
		Name, Request string
		Response      string `json:"response_hex"`
	} `json:"fingerprint_reads"`
}

func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "idcard", "testdata", "idcard-vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Exchanges) == 0 || len(v.Cards) == 0 || len(v.Fingerprints) == 0 {
		t.Fatal("a part of the vectors is not there")
	}
	return v
}

// person is the one that a parser should make of a vector's card.
func person(t *testing.T, kind string, expected map[string]any) (p Person) {
	t.Helper()
	expected = maps.Clone(expected)
	for _, date := range []string{"birth", "valid_from", "valid_to"} {
		if s, ok := expected[date].(string); ok {
			expected[date] = strings.ReplaceAll(s, "-", "")
		}
	}
	if expected["long_term"] == true {
		expected["valid_to"] = "长期"
	}
	expected["kind"] = kind
	b, err := json.Marshal(expected)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPersonsMakeTheTextBlocksOfTheVectors(t *testing.T) {
	persons := Persons()
	kinds := map[Kind]int{}
	for i, v := range readVectors(t).Cards {
		p := person(t, v.Kind, v.Expected)
		kinds[p.Kind]++
		c, err := p.Card()
		if err != nil {
			t.Fatalf("%s: %v", v.ID, err)
		}
		if !bytes.Equal(c.Text[:], unhex(t, v.TextHex)) {
			t.Errorf("%s: text block differs:\n% X", v.ID, c.Text)
		}
		if !reflect.DeepEqual(p, persons[i]) {
			t.Errorf("%s: person %d is another: %v", v.ID, i, persons[i])
		}
	}
	if len(kinds) != 4 {
		t.Errorf("vectors of the kinds %v", kinds)
	}
}

func TestCardsAreOfEveryKind(t *testing.T) {
	letters, moved, fingers := "", 0, 0
	for i, c := range Cards() {
		if letter := string(c.Text[248]); !strings.Contains(letters, letter) {
			letters += letter
		}
		if letter := map[Kind]byte{Resident: ' ', Foreigner2017: 'I', Foreigner2023: 'Y', HMT: 'J', Unknown: 'Z'}[Persons()[i].Kind]; c.Text[248] != letter {
			t.Errorf("card %d has the letter %c", i, c.Text[248])
		}
		moved = max(moved, len(c.Addresses))
		fingers = max(fingers, len(c.Fingerprints)/512)
		for f := c.Fingerprints; len(f) > 0; f = f[512:] {
			if f[0] != 'C' || f[4] != 1 || f[5] < 11 || f[5] > 99 || f[6] < 1 || f[6] > 100 {
				t.Errorf("card %d: a fingerprint record begins with % X", i, f[:8])
			}
		}
	}
	if letters != " IYJZ" || moved != 2 || fingers != 2 {
		t.Errorf("letters %q, %d new addresses, %d fingers", letters, moved, fingers)
	}
}

func TestMadeUp(t *testing.T) {
	for _, kind := range Kinds() {
		seen := map[string]bool{}
		for n := range 10_000 {
			p := MadeUpOf(kind, n)
			if seen[p.Number] {
				t.Fatalf("%s: number of person %d is not the first of its kind", kind, n)
			}
			seen[p.Number] = true
			if _, err := p.Card(); err != nil {
				t.Fatalf("%s %d: %v", kind, n, err)
			}
			last := len(p.Number) - 1
			check, birth := checkDigit, p.Birth
			if kind == Foreigner2017 {
				check, birth = passportDigit, p.Birth[2:]
			}
			if !strings.Contains(p.Number, birth) || p.Number[last] != check(p.Number[:last]) {
				t.Fatalf("%s %d: number does not fit", kind, n)
			}
			if odd := (p.Number[last-1]-'0')%2 == 1; odd != (p.Sex == "1") {
				t.Fatalf("%s %d: sex does not fit the number", kind, n)
			}
		}
	}
	if MadeUp(7).Kind != Resident {
		t.Error("MadeUp makes others than residents")
	}
}

func TestCheckDigits(t *testing.T) {
	for i, p := range Persons() {
		check := checkDigit
		if p.Kind == Foreigner2017 {
			check = passportDigit
		}
		if last := len(p.Number) - 1; check(p.Number[:last]) != p.Number[last] {
			t.Errorf("check digit of person %d does not fit", i)
		}
	}
}

func TestPersonThatMakesNoCard(t *testing.T) {
	for name, spoil := range map[string]func(*Person){
		"kind":                 func(p *Person) { p.Kind = "driver" },
		"address too long":     func(p *Person) { p.Address = strings.Repeat("路", 36) },
		"too many addresses":   func(p *Person) { p.NewAddresses = slices.Repeat([]string{"路"}, 5) },
		"new address too long": func(p *Person) { p.NewAddresses = []string{strings.Repeat("路", 36)} },
		"too many fingers":     func(p *Person) { p.Fingers = []int{11, 12, 13} },
		"real region":          func(p *Person) { p.Number = "110101" + p.Number[6:] },
		"real foreigner":       func(p *Person) { *p = MadeUpOf(Foreigner2017, 1); p.Number = "USA1101" + p.Number[7:] },
		"real foreigner 2023":  func(p *Person) { *p = MadeUpOf(Foreigner2023, 1); p.Number = "911" + p.Number[3:] },
		"real birth":           func(p *Person) { *p = MadeUpOf(HMT, 1); p.Number = p.Number[:6] + "1990" + p.Number[10:] },
		"English name too long": func(p *Person) {
			*p = MadeUpOf(Foreigner2023, 1)
			p.EnglishName = strings.Repeat("A", 47)
		},
	} {
		p := MadeUp(1)
		spoil(&p)
		if _, err := p.Card(); err == nil {
			t.Errorf("%s: made a card of it", name)
		}
	}
}
