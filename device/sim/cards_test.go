package sim

import (
	"bytes"
	"strings"
	"testing"
)

func TestPersonsMakeTheTextBlocksOfTheVectors(t *testing.T) {
	residents := readVectors(t).Residents
	cards := Cards()
	if len(cards) != len(residents) || len(cards) == 0 {
		t.Fatalf("%d cards, %d vectors", len(cards), len(residents))
	}
	for i, v := range residents {
		if !bytes.Equal(cards[i].Text[:], unhex(t, v.TextHex)) {
			t.Errorf("%s: text block differs:\n% X", v.ID, cards[i].Text)
		}
	}
}

func TestMadeUp(t *testing.T) {
	seen := map[string]bool{}
	for n := range 5000 {
		p := MadeUp(n)
		if seen[p.Number] {
			t.Fatalf("number of person %d is not the first of its kind", n)
		}
		seen[p.Number] = true
		if _, err := p.Card(); err != nil {
			t.Fatal(err)
		}
		if p.Number[6:14] != p.Birth || p.Number[17] != checkDigit(p.Number[:17]) {
			t.Fatalf("person %d: number does not fit", n)
		}
		if odd := (p.Number[16]-'0')%2 == 1; odd != (p.Sex == "1") {
			t.Fatalf("person %d: sex does not fit the number", n)
		}
	}
}

func TestCheckDigit(t *testing.T) {
	for _, p := range Persons() {
		if got := checkDigit(p.Number[:17]); got != p.Number[17] {
			t.Errorf("check digit of …%s is %c", p.Number[14:], got)
		}
	}
}

func TestPersonThatDoesNotFit(t *testing.T) {
	long, real := MadeUp(1), MadeUp(1)
	long.Address = strings.Repeat("路", 36)
	real.Number = "110101" + real.Number[6:]
	for _, p := range []Person{long, real} {
		if _, err := p.Card(); err == nil {
			t.Error("made a card of it")
		}
	}
}
