package idcard

import (
	"strconv"
	"strings"

	"golang.org/x/text/language"
)

// layout says where the fields of one kind of card lie in the text block, and
// which members its JSON has.
type layout struct {
	letter   string // kind letter at letterOffset
	cardType string
	members  string
	fields   []field
	check    func(*parse) // across fields
}

// field is a text in one or two runs of UTF-16LE code units, and what becomes
// of it.
type field struct {
	name string // JSON name, for warnings
	runs []run
	set  func(p *parse, name, text string)
}

// run is a part of the text block, in bytes.
type run struct{ offset, len int }

const letterOffset = 248

// Fields that several kinds have at the same place.
var (
	sexField     = field{"sex_code", at(30, 2), (*parse).sex}
	birthField   = field{"birth", at(36, 16), date(func(c *Card) *Optional { return &c.Birth })}
	addressField = field{"address", at(52, 70), needed(func(c *Card) *Optional { return &c.Address })}
	numberField  = field{"id_number", at(122, 36), (*parse).number}
	issuerField  = field{"issuer", at(158, 30), needed(func(c *Card) *Optional { return &c.Issuer })}
	fromField    = field{"valid_from", at(188, 16), date(func(c *Card) *Optional { return &c.ValidFrom })}
	toField      = field{"valid_to", at(204, 16), date(func(c *Card) *Optional { return &c.ValidTo })}
)

// layouts by kind letter. The standards are not public; the offsets are those
// that several vendors' programs agree on.
var layouts = []layout{resident, foreigner2017, foreigner2023, permit}

var resident = layout{
	letter:   " ",
	cardType: "resident_id_card",
	members:  "card_type type_flag name sex_code sex nation_code nation birth address id_number id_number_valid issuer valid_from valid_to long_term",
	fields: []field{
		{"name", at(0, 30), needed(func(c *Card) *Optional { return &c.Name })},
		sexField,
		{"nation_code", at(32, 4), (*parse).nation},
		birthField,
		addressField,
		numberField,
		issuerField,
		fromField,
		{"valid_to", at(204, 16), (*parse).validTo},
	},
	check: func(p *parse) {
		p.expectNumber(func(n string) bool { return len(n) == 18 && n[0] != '9' && regionOf(n) == "" })
		p.compareWithNumber()
	},
}

// foreigner2017 is the permanent residence card issued until November 2023.
var foreigner2017 = layout{
	letter:   "I",
	cardType: "foreigner_permanent_residence_2017",
	members:  "card_type type_flag name english_name sex_code sex nationality birth id_number id_number_valid valid_from valid_to version authority_code",
	fields: []field{
		{"english_name", at(0, 120), needed(func(c *Card) *Optional { return &c.EnglishName })},
		{"sex_code", at(120, 2), (*parse).sex},
		{"id_number", at(122, 30), (*parse).number},
		{"nationality", at(152, 6), (*parse).nationality},
		{"name", at(158, 30), plain(func(c *Card) *Optional { return &c.Name })},
		fromField,
		toField,
		{"birth", at(220, 16), date(func(c *Card) *Optional { return &c.Birth })},
		{"version", at(236, 4), plain(func(c *Card) *Optional { return &c.Version })},
		{"authority_code", at(240, 8), plain(func(c *Card) *Optional { return &c.AuthorityCode })},
	},
	check: func(p *parse) {
		fits := p.expectNumber(func(n string) bool { return len(n) == 15 })
		p.compareWithNumber()
		if c := &p.card; fits && c.Nationality != "" && fill(string(c.IDNumber[:3])) != fill(string(c.Nationality)) {
			p.warn(NationalityMismatch, "nationality")
		}
	},
}

// foreigner2023 is the permanent residence card issued since December 2023. The
// English name goes on where other cards have no text.
var foreigner2023 = layout{
	letter:   "Y",
	cardType: "foreigner_permanent_residence_2023",
	members:  "card_type type_flag name english_name sex_code sex renewals nationality birth id_number id_number_valid valid_from valid_to previous_number_link previous_id_number",
	fields: []field{
		{"name", at(0, 30), plain(func(c *Card) *Optional { return &c.Name })},
		sexField,
		{"renewals", at(32, 4), plain(func(c *Card) *Optional { return &c.Renewals })},
		birthField,
		{"english_name", []run{{52, 70}, {220, 22}}, needed(func(c *Card) *Optional { return &c.EnglishName })},
		numberField,
		fromField,
		toField,
		{"nationality", at(242, 6), (*parse).nationality},
		{"previous_number_link", at(250, 6), plain(func(c *Card) *Optional { return &c.PreviousNumberLink })},
	},
	check: func(p *parse) {
		fits := p.expectNumber(func(n string) bool { return len(n) == 18 && n[0] == '9' })
		p.compareWithNumber()
		c := &p.card
		if fits && c.Nationality != "" && !sameCountry(string(c.IDNumber[3:6]), string(c.Nationality)) {
			p.warn(NationalityMismatch, "nationality")
		}
		if c.PreviousNumberLink != "" {
			old, err := PreviousNumber(string(c.IDNumber), string(c.Nationality), string(c.PreviousNumberLink))
			if err != nil {
				p.warn(BadNumber, "previous_number_link")
			}
			c.PreviousIDNumber = Optional(old)
		}
	},
}

// permit is the residence permit for residents of Hong Kong, Macao and Taiwan.
var permit = layout{
	letter:   "J",
	cardType: "hmt_residence_permit",
	members:  "card_type type_flag name sex_code sex nation_code birth address id_number id_number_valid region issuer valid_from valid_to travel_permit_number issue_count",
	fields: []field{
		{"name", at(0, 30), needed(func(c *Card) *Optional { return &c.Name })},
		sexField,
		birthField,
		addressField,
		numberField,
		issuerField,
		fromField,
		toField,
		{"travel_permit_number", at(220, 18), plain(func(c *Card) *Optional { return &c.TravelPermitNumber })},
		{"issue_count", at(238, 4), plain(func(c *Card) *Optional { return &c.IssueCount })},
	},
	check: func(p *parse) {
		p.card.Region = regionOf(string(p.card.IDNumber))
		p.expectNumber(func(n string) bool { return len(n) == 18 && regionOf(n) != "" })
		p.compareWithNumber()
	},
}

// stranger is a card of a kind that came after this program. All kinds but the
// oldest agree on where number, birth and sex lie, and all on the validity; of
// these only what proves itself is handed on: a number by its check digit, birth
// and sex by the number, a date by being one.
var stranger = layout{
	cardType: "unknown",
	members:  "card_type type_flag sex_code sex birth id_number id_number_valid valid_from valid_to",
	fields: []field{
		sexField,
		birthField,
		numberField,
		fromField,
		toField,
	},
	check: func(p *parse) {
		c := &p.card
		p.compareWithNumber()
		if len(c.IDNumber) != 18 || !c.IDNumberValid || p.doubts("birth") {
			c.IDNumber, c.IDNumberValid, c.Birth = "", false, ""
		}
		if c.IDNumber == "" || c.SexCode != "1" && c.SexCode != "2" || p.doubts("sex_code") {
			c.SexCode, c.Sex = "", ""
		}
		p.warnings = []Warning{{UnknownKind, "type_flag"}}
	},
}

// fill takes the fillers off a country code: D<< and D are the same.
func fill(country string) string { return strings.TrimRight(country, "<") }

func at(offset, length int) []run { return []run{{offset, length}} }

// membersOf lists the JSON members of a type of card, nil for a type that has
// no layout.
func membersOf(cardType string) []string {
	for _, l := range append(layouts, stranger) {
		if l.cardType == cardType {
			return strings.Fields(l.members)
		}
	}
	return nil
}

// regionOf names the home of the holder of a residence permit by the number,
// "" for any other number.
func regionOf(number string) Optional {
	if len(number) != 18 {
		return ""
	}
	return map[string]Optional{"810000": "香港", "820000": "澳门", "830000": "台湾"}[number[:6]]
}

// sameCountry says whether a numeric country code may mean the same country as
// three letters (GB/T 2659, ISO 3166-1); where one of them is not assigned,
// nothing speaks against it.
func sameCountry(numeric, letters string) bool {
	n, err := strconv.Atoi(numeric)
	if err != nil {
		return true
	}
	byNumber, err := language.EncodeM49(n)
	if err != nil || !byNumber.IsCountry() {
		return true
	}
	byLetters, err := language.ParseRegion(letters)
	return err != nil || !byLetters.IsCountry() || byNumber == byLetters
}
