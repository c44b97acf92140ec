package sim

import (
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"unicode/utf16"
)

// Card is what a reader gets from a card.
type Card struct {
	Text  [256]byte  // UTF-16LE fields, space padded
	Photo [1024]byte // WLT block
}

// management is the 30 05 payload: IIN 4, SN 8, DN 16 bytes; made up from the
// text, so it stays the same for a card.
func (c *Card) management() []byte {
	h := fnv.New128a()
	h.Write(c.Text[:])
	dn := h.Sum(nil)
	return append(append(make([]byte, 4, 28), dn[:8]...), dn...)
}

// Person is what is printed on a resident ID card. Dates are YYYYMMDD; ValidTo
// may be 长期. Only made-up persons: the number begins with a region nn9999,
// which GB/T 2260 gives to no place.
type Person struct {
	Name      string `json:"name"`        // up to 15 UTF-16 units
	Sex       string `json:"sex_code"`    // GB/T 2261.1
	Nation    string `json:"nation_code"` // GB/T 3304, two digits
	Birth     string `json:"birth"`
	Address   string `json:"address"`   // up to 35 UTF-16 units
	Number    string `json:"id_number"` // GB 11643
	Issuer    string `json:"issuer"`    // up to 15 UTF-16 units
	ValidFrom string `json:"valid_from"`
	ValidTo   string `json:"valid_to"`
}

//go:embed persons.json
var persons []byte

// Persons returns the made-up persons of the project's test vectors.
func Persons() []Person {
	var ps []Person
	if err := json.Unmarshal(persons, &ps); err != nil {
		panic("sim: persons.json: " + err.Error()) // embedded: a test has read it
	}
	return ps
}

// Cards returns the cards of Persons.
func Cards() []Card {
	var cs []Card
	for _, p := range Persons() {
		c, err := p.Card()
		if err != nil {
			panic("sim: persons.json: " + err.Error())
		}
		cs = append(cs, c)
	}
	return cs
}

// Card writes the person's text block, with a photo block that is no picture.
func (p Person) Card() (Card, error) {
	var c Card
	if len(p.Number) != 18 || p.Number[2:6] != "9999" {
		return Card{}, fmt.Errorf("make card: region of the number is not nn9999")
	}
	at := 0
	for _, f := range []struct {
		name, value string
		size        int // bytes
	}{
		{"name", p.Name, 30},
		{"sex", p.Sex, 2},
		{"nation", p.Nation, 4},
		{"birth", p.Birth, 16},
		{"address", p.Address, 70},
		{"number", p.Number, 36},
		{"issuer", p.Issuer, 30},
		{"valid from", p.ValidFrom, 16},
		{"valid to", p.ValidTo, 16},
		{"reserved", "", 36},
	} {
		units := utf16.Encode([]rune(f.value))
		if len(units) > f.size/2 {
			return Card{}, fmt.Errorf("make card: %s has %d UTF-16 units, the field holds %d", f.name, len(units), f.size/2)
		}
		for i := range f.size / 2 {
			u := uint16(' ')
			if i < len(units) {
				u = units[i]
			}
			binary.LittleEndian.PutUint16(c.Text[at+2*i:], u)
		}
		at += f.size
	}
	c.Photo = noise(c.Text[:])
	return c, nil
}

// noise is a photo block with the head that such blocks have in common and
// behind it bytes that are no picture, always the same for the same card.
func noise(seed []byte) (p [1024]byte) {
	n := copy(p[:], []byte{0x57, 0x4C, 0x66, 0x00, 0x7E, 0x00, 0x32, 0x00})
	h := fnv.New64a()
	h.Write(seed)
	x := h.Sum64()
	for i := n; i < len(p); i++ {
		x = x*6364136223846793005 + 1442695040888963407
		p[i] = byte(x >> 56)
	}
	return p
}

// MadeUp returns the n-th of many persons for demonstrations: the same n gives
// the same person. Names, places and numbers belong to nobody.
func MadeUp(n int) Person {
	n = max(n, -n)
	family := []rune("测试样例虚构示范甲乙丙丁戊己庚辛壬癸")
	given := []rune("一二三四五六七八九十百千天地玄黄宇宙洪荒")
	year, month, day := 1940+n%65, 1+n/3%12, 1+n/5%28
	order := n % 1000
	birth := fmt.Sprintf("%04d%02d%02d", year, month, day)
	p := Person{
		Name:      string([]rune{family[n%len(family)], given[n/len(family)%len(given)], given[n/7%len(given)]}),
		Sex:       "2",
		Nation:    fmt.Sprintf("%02d", 1+n%11*(n%4/3)), // mostly 01
		Birth:     birth,
		Address:   fmt.Sprintf("虚构省样例市示范区不存在路%d号", n+1),
		Number:    fmt.Sprintf("%02d9999%s%03d", 11+n%55, birth, order),
		Issuer:    "虚构市公安局示范分局",
		ValidFrom: "20200101",
		ValidTo:   "20400101",
	}
	if order%2 == 1 {
		p.Sex = "1"
	}
	if year < 1970 {
		p.ValidTo = "长期"
	}
	p.Number += string(checkDigit(p.Number))
	return p
}

// checkDigit of the first 17 digits by ISO 7064 MOD 11-2 (GB 11643).
func checkDigit(digits string) byte {
	sum := 0
	for _, d := range digits {
		sum = (sum + int(d-'0')) * 2 % 11
	}
	return "10X98765432"[sum]
}
