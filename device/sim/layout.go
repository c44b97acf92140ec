package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
)

// field of a text block.
type field struct {
	name, value string
	size        int // bytes, two for each UTF-16 unit
}

// layout gives the fields of the person's kind of card in their order; they fill
// the block. The layouts of foreigners' cards and of the permit are those that
// makers of readers publish with their demonstration programs.
func (p Person) layout() []field {
	switch p.Kind {
	case Resident, Unknown:
		letter := " "
		if p.Kind == Unknown {
			letter = "Z"
		}
		return []field{
			{"name", p.Name, 30},
			{"sex", p.Sex, 2},
			{"nation", p.Nation, 4},
			{"birth", p.Birth, 16},
			{"address", p.Address, 70},
			{"number", p.Number, 36},
			{"issuer", p.Issuer, 30},
			{"valid from", p.ValidFrom, 16},
			{"valid to", p.ValidTo, 16},
			{"reserved", "", 28},
			{"kind", letter, 2},
			{"reserved", "", 6},
		}
	case Foreigner2017:
		return []field{
			{"English name", p.EnglishName, 120},
			{"sex", p.Sex, 2},
			{"number", p.Number, 30},
			{"nationality", p.Nationality, 6},
			{"name", p.Name, 30},
			{"valid from", p.ValidFrom, 16},
			{"valid to", p.ValidTo, 16},
			{"birth", p.Birth, 16},
			{"version", p.Version, 4},
			{"authority", p.Authority, 8},
			{"kind", "I", 2},
			{"reserved", "", 6},
		}
	case Foreigner2023:
		first, rest := p.EnglishName, ""
		if units := utf16.Encode([]rune(first)); len(units) > 35 {
			first, rest = string(utf16.Decode(units[:35])), string(utf16.Decode(units[35:]))
		}
		return []field{
			{"name", p.Name, 30},
			{"sex", p.Sex, 2},
			{"renewals", p.Renewals, 4},
			{"birth", p.Birth, 16},
			{"English name", first, 70},
			{"number", p.Number, 36},
			{"reserved", "", 30},
			{"valid from", p.ValidFrom, 16},
			{"valid to", p.ValidTo, 16},
			{"rest of the English name", rest, 22},
			{"nationality", p.Nationality, 6},
			{"kind", "Y", 2},
			{"previous number", p.Previous, 6},
		}
	case HMT:
		return []field{
			{"name", p.Name, 30},
			{"sex", p.Sex, 2},
			{"reserved", "", 4},
			{"birth", p.Birth, 16},
			{"address", p.Address, 70},
			{"number", p.Number, 36},
			{"issuer", p.Issuer, 30},
			{"valid from", p.ValidFrom, 16},
			{"valid to", p.ValidTo, 16},
			{"travel permit", p.Permit, 18},
			{"issues", p.Issues, 4},
			{"reserved", "", 6},
			{"kind", "J", 2},
			{"reserved", "", 6},
		}
	}
	return nil
}

// madeUp says whether the number can be nobody's: a region nn9999, which
// GB/T 2260 gives to no place; a province 99; or, where the region is one of
// three, a birth before 1906.
func (p Person) madeUp() bool {
	n := p.Number
	switch p.Kind {
	case Foreigner2017:
		return len(n) == 15 && n[3:5] == "99"
	case Foreigner2023:
		return len(n) == 18 && n[:3] == "999"
	case HMT:
		return len(n) == 18 && strings.Contains("810000 820000 830000", n[:6]) && n[6:10] < "1906"
	}
	return len(n) == 18 && n[2:6] == "9999"
}

// Card writes the person's card, with a photo block that is no picture and
// fingerprints that are nobody's. It refuses numbers that somebody may have.
func (p Person) Card() (Card, error) {
	var c Card
	layout := p.layout()
	switch {
	case layout == nil:
		return Card{}, fmt.Errorf("make card: no kind %q", p.Kind)
	case !p.madeUp():
		return Card{}, errors.New("make card: the number could be somebody's")
	case len(p.NewAddresses) > 4:
		return Card{}, fmt.Errorf("make card: %d new addresses, the card holds 4", len(p.NewAddresses))
	case len(p.Fingers) > 2:
		return Card{}, fmt.Errorf("make card: %d fingers, the card holds 2", len(p.Fingers))
	}
	at := 0
	for _, f := range layout {
		if err := f.write(c.Text[at : at+f.size]); err != nil {
			return Card{}, err
		}
		at += f.size
	}
	c.Photo = photo(c.Text[:])
	for _, a := range p.NewAddresses {
		var slot [70]byte
		if err := (field{"new address", a, len(slot)}).write(slot[:]); err != nil {
			return Card{}, err
		}
		c.Addresses = append(c.Addresses, slot)
	}
	for _, position := range p.Fingers {
		c.Fingerprints = append(c.Fingerprints, fingerprint(position, c.Text[:])...)
	}
	return c, nil
}

// write fills b with the value and spaces.
func (f field) write(b []byte) error {
	units := utf16.Encode([]rune(f.value))
	if len(units) > f.size/2 {
		return fmt.Errorf("make card: %s has %d UTF-16 units, the field holds %d", f.name, len(units), f.size/2)
	}
	for i := range f.size / 2 {
		u := uint16(' ')
		if i < len(units) {
			u = units[i]
		}
		binary.LittleEndian.PutUint16(b[2*i:], u)
	}
	return nil
}
