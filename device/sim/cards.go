package sim

import (
	_ "embed"
	"encoding/json"
	"hash/fnv"
)

// Card is what a reader gets from a card.
type Card struct {
	Text         [256]byte  // UTF-16LE fields, space padded
	Photo        [1024]byte // WLT block
	Addresses    [][70]byte // added after the card was issued, up to 4; UTF-16LE, space padded
	Fingerprints []byte     // none, or a record of 512 bytes for each of up to 2 fingers
}

// management is the 30 05 payload: IIN 4, SN 8, DN 16 bytes; made up from the
// text, so it stays the same for a card.
func (c *Card) management() []byte {
	h := fnv.New128a()
	h.Write(c.Text[:])
	dn := h.Sum(nil)
	return append(append(make([]byte, 4, 28), dn[:8]...), dn...)
}

// Kind of a card. What tells a reader is the letter in the text block.
type Kind string

// The kinds of cards, and one that stands for all that will come: its letter
// belongs to none of them.
const (
	Resident      Kind = "resident"       // resident ID card, no letter
	Foreigner2017 Kind = "foreigner_2017" // foreigner's permanent residence card, I
	Foreigner2023 Kind = "foreigner_2023" // the same in its layout since 2023-12-01, Y
	HMT           Kind = "hmt"            // residence permit of residents of Hong Kong, Macao and Taiwan, J
	Unknown       Kind = "unknown"        // Z; fields as on a resident card
)

// Kinds are all kinds of cards.
func Kinds() []Kind { return []Kind{Resident, Foreigner2017, Foreigner2023, HMT, Unknown} }

// Person is what is printed on a card, and which kind of card that is; a field
// that the kind does not have stays empty. Dates are YYYYMMDD; ValidTo of a
// resident may be 长期. Only made-up persons: see [Person.Card].
type Person struct {
	Kind        Kind   `json:"kind"`
	Name        string `json:"name"`         // Chinese, up to 15 UTF-16 units; a foreigner may have none
	EnglishName string `json:"english_name"` // of a foreigner, up to 60 units (2023: 46)
	Sex         string `json:"sex_code"`     // GB/T 2261.1
	Nation      string `json:"nation_code"`  // of a resident: GB/T 3304, two digits
	Birth       string `json:"birth"`
	Address     string `json:"address"`   // up to 35 UTF-16 units
	Number      string `json:"id_number"` // GB 11643; of a foreigner 15 characters (2017) or 18 (2023)
	Issuer      string `json:"issuer"`    // up to 15 UTF-16 units
	ValidFrom   string `json:"valid_from"`
	ValidTo     string `json:"valid_to"`

	Nationality string `json:"nationality"`          // of a foreigner: ISO 3166, three letters
	Version     string `json:"version"`              // of the 2017 card, two characters
	Authority   string `json:"authority_code"`       // of the 2017 card, four digits
	Renewals    string `json:"renewals"`             // of the 2023 card, two digits
	Previous    string `json:"previous_number_link"` // of the 2023 card, three digits or none
	Permit      string `json:"travel_permit_number"` // of an HMT permit, up to 9 characters
	Issues      string `json:"issue_count"`          // of an HMT permit, two digits

	NewAddresses []string `json:"new_addresses"` // up to 4; an empty one is a blank slot
	Fingers      []int    `json:"fingers"`       // positions by GA 1012, 11 to 20 or 97 to 99; up to 2
}

//go:embed persons.json
var persons []byte

// Persons returns the made-up persons of the project's test vectors, of every
// kind, and behind them two more: a resident who moved twice and gave two
// fingerprints, and the holder of a card of an unknown kind.
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

// noise fills b with bytes that mean nothing, always the same for the same seed.
func noise(b, seed []byte) {
	h := fnv.New64a()
	h.Write(seed)
	x := h.Sum64()
	for i := range b {
		x = x*6364136223846793005 + 1442695040888963407
		b[i] = byte(x >> 56)
	}
}

// photo is a block with the head that such blocks have in common and behind it
// bytes that are no picture.
func photo(seed []byte) (p [1024]byte) {
	n := copy(p[:], []byte{0x57, 0x4C, 0x66, 0x00, 0x7E, 0x00, 0x32, 0x00})
	noise(p[n:], seed)
	return p
}

// fingerprint is the record of one finger, without a template in it. Registered,
// of a quality between 60 and 99.
func fingerprint(position int, seed []byte) []byte {
	r := make([]byte, 512)
	noise(r, append([]byte{byte(position)}, seed...))
	quality := 60 + r[6]%40
	copy(r, []byte{'C', 0, 0, 0, 1, byte(position), quality})
	return r
}
