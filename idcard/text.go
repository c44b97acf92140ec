package idcard

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// parse is a text block being read.
type parse struct {
	card     Card
	warnings []Warning
}

// ParseText reads a text block: 256 bytes of UTF-16LE, fields padded with
// spaces (NUL is taken for padding too). What is doubtful in it is a warning,
// and so is a kind of card that is not known, of which only what proves itself
// is given; the only error is a block of another size. Text is never
// normalised: pairs and private-use characters stay as they are.
func ParseText(block []byte) (Card, []Warning, error) {
	if len(block) != textSize {
		return Card{}, nil, fmt.Errorf("text block has %d bytes, want %d", len(block), textSize)
	}
	letter, _ := decode(block[letterOffset : letterOffset+2])
	if letter == "" {
		letter = " "
	}
	chosen := stranger
	for _, l := range layouts {
		if l.letter == letter {
			chosen = l
		}
	}
	card, warnings := chosen.parse(letter, block)
	return card, warnings, nil
}

func (l layout) parse(letter string, block []byte) (Card, []Warning) {
	p := &parse{card: Card{Type: l.cardType, Flag: letter}}
	for _, f := range l.fields {
		text, whole := decode(f.bytes(block))
		if !whole {
			p.warn(BadCharacter, f.name)
		}
		f.set(p, f.name, text)
	}
	l.check(p)
	return p.card, p.warnings
}

// bytes are the field's code units, joined where they lie apart.
func (f field) bytes(block []byte) []byte {
	var b []byte
	for _, r := range f.runs {
		b = append(b, block[r.offset:r.offset+r.len]...)
	}
	return b
}

// decode reads UTF-16LE and cuts the padding off the end. whole is false when
// half a surrogate pair was replaced by U+FFFD.
func decode(b []byte) (text string, whole bool) {
	whole = true
	out := make([]byte, 0, len(b)*3/2)
	for ; len(b) >= 2; b = b[2:] {
		r := rune(binary.LittleEndian.Uint16(b))
		if utf16.IsSurrogate(r) {
			low := rune(0)
			if len(b) >= 4 {
				low = rune(binary.LittleEndian.Uint16(b[2:]))
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				whole = false
			} else {
				b = b[2:]
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return strings.TrimRight(string(out), " \x00"), whole
}

func (p *parse) warn(code WarningCode, field string) {
	p.warnings = append(p.warnings, Warning{code, field})
}

func (p *parse) doubts(field string) bool {
	return slices.ContainsFunc(p.warnings, func(w Warning) bool { return w.Field == field })
}

// plain sets a text that may be blank.
func plain(of func(*Card) *Optional) func(*parse, string, string) {
	return func(p *parse, _, text string) { *of(&p.card) = Optional(text) }
}

// needed sets a text that every card of the kind has.
func needed(of func(*Card) *Optional) func(*parse, string, string) {
	return func(p *parse, name, text string) {
		*of(&p.card) = Optional(text)
		if text == "" {
			p.warn(Blank, name)
		}
	}
}

func date(of func(*Card) *Optional) func(*parse, string, string) {
	return func(p *parse, name, text string) {
		d, ok := parseDate(text)
		if !ok {
			p.warn(BadDate, name)
		}
		*of(&p.card) = d
	}
}

func (p *parse) sex(name, text string) {
	p.card.SexCode, p.card.Sex = Optional(text), sexes[text]
	if p.card.Sex == "" {
		p.warn(UnknownCode, name)
	}
}

func (p *parse) nation(name, text string) {
	p.card.NationCode, p.card.Nation = Optional(text), nations[text]
	if p.card.Nation == "" {
		p.warn(UnknownCode, name)
	}
}

func (p *parse) nationality(name, text string) {
	p.card.Nationality = Optional(text)
	for _, c := range []byte(fill(text)) {
		if !isLetter(c) {
			p.warn(UnknownCode, name)
			return
		}
	}
	if text == "" {
		p.warn(Blank, name)
	}
}

func (p *parse) number(name, text string) {
	p.card.IDNumber, p.card.IDNumberValid = Optional(text), CheckNumber(text) == nil
	if !p.card.IDNumberValid {
		p.warn(BadNumber, name)
	}
}

// validTo reads the end of validity, which for the long term is two characters.
func (p *parse) validTo(name, text string) {
	if text == "长期" {
		p.card.LongTerm = true
		return
	}
	date(func(c *Card) *Optional { return &c.ValidTo })(p, name, text)
}

// expectNumber holds a number that is valid against the shape of its kind of
// card, since numbers do not wander between the kinds. Only one that is valid
// and fits says more about the card.
func (p *parse) expectNumber(shape func(number string) bool) (fits bool) {
	if !p.card.IDNumberValid {
		return false
	}
	fits = shape(string(p.card.IDNumber))
	if !fits {
		p.warn(NumberMismatch, "id_number")
	}
	return fits
}

// compareWithNumber holds birth and sex against a number that is valid. Of 18
// characters 7 to 14 are the birth and the parity of 17 the sex, odd for male;
// of 15 characters 8 to 13 are the birth without its century, and whether the
// order digit tells the sex is not certain.
func (p *parse) compareWithNumber() {
	c := &p.card
	if !c.IDNumberValid {
		return
	}
	number, birth := string(c.IDNumber), strings.ReplaceAll(string(c.Birth), "-", "")
	if len(number) == 15 {
		if birth != "" && number[7:13] != birth[2:] {
			p.warn(BirthMismatch, "birth")
		}
		return
	}
	if birth != "" && number[6:14] != birth {
		p.warn(BirthMismatch, "birth")
	}
	odd := number[16]%2 == 1
	if c.SexCode == "1" && !odd || c.SexCode == "2" && odd {
		p.warn(SexMismatch, "sex_code")
	}
}
