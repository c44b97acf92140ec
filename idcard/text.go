package idcard

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// layout says where the fields of one kind of card lie in the text block.
type layout struct {
	letter   string // kind letter at offset 248
	cardType string
	fields   []field
	check    func(*parse) // across fields
}

// field is a run of UTF-16LE code units, offset and length in bytes, and what
// becomes of its text.
type field struct {
	name        string // JSON name, for warnings
	offset, len int
	set         func(p *parse, name, text string)
}

const letterOffset = 248

// layouts by kind letter. The standard is not public; the offsets are those
// that several vendors' programs agree on.
var layouts = []layout{resident}

var resident = layout{
	letter:   " ",
	cardType: "resident_id_card",
	fields: []field{
		{"name", 0, 30, needed(func(c *Card) *Optional { return &c.Name })},
		{"sex_code", 30, 2, (*parse).sex},
		{"nation_code", 32, 4, (*parse).nation},
		{"birth", 36, 16, date(func(c *Card) *Optional { return &c.Birth })},
		{"address", 52, 70, needed(func(c *Card) *Optional { return &c.Address })},
		{"id_number", 122, 36, (*parse).number},
		{"issuer", 158, 30, needed(func(c *Card) *Optional { return &c.Issuer })},
		{"valid_from", 188, 16, date(func(c *Card) *Optional { return &c.ValidFrom })},
		{"valid_to", 204, 16, (*parse).validTo},
	},
	check: func(p *parse) {
		if strings.HasPrefix(string(p.card.IDNumber), "9") {
			p.warn(NumberMismatch, "id_number")
		}
		p.compareWithNumber()
	},
}

// parse is a text block being read.
type parse struct {
	card     Card
	warnings []Warning
}

// ParseText reads a text block: 256 bytes of UTF-16LE, fields padded with
// spaces (NUL is taken for padding too). What is doubtful in it is a warning;
// the only errors are a block of another size and, as a *KindError, a kind of
// card that is not known. Text is never normalised: pairs and private-use
// characters stay as they are.
func ParseText(block []byte) (Card, []Warning, error) {
	if len(block) != textSize {
		return Card{}, nil, fmt.Errorf("text block has %d bytes, want %d", len(block), textSize)
	}
	letter, _ := decode(block[letterOffset : letterOffset+2])
	if letter == "" {
		letter = " "
	}
	for _, l := range layouts {
		if l.letter == letter {
			card, warnings := l.parse(block)
			return card, warnings, nil
		}
	}
	return Card{}, nil, &KindError{letter}
}

func (l layout) parse(block []byte) (Card, []Warning) {
	p := &parse{card: Card{Type: l.cardType, Flag: l.letter}}
	for _, f := range l.fields {
		text, whole := decode(block[f.offset : f.offset+f.len])
		if !whole {
			p.warn(BadCharacter, f.name)
		}
		f.set(p, f.name, text)
	}
	l.check(p)
	return p.card, p.warnings
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

// compareWithNumber holds birth and sex against a number that is valid: its
// digits 7 to 14 are the birth, the parity of digit 17 the sex, odd for male.
func (p *parse) compareWithNumber() {
	c := &p.card
	if !c.IDNumberValid {
		return
	}
	if birth, _ := parseDate(string(c.IDNumber[6:14])); c.Birth != "" && birth != c.Birth {
		p.warn(BirthMismatch, "birth")
	}
	odd := c.IDNumber[16]%2 == 1
	if c.SexCode == "1" && !odd || c.SexCode == "2" && odd {
		p.warn(SexMismatch, "sex_code")
	}
}
