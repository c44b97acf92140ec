package idcard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

func TestCardVectors(t *testing.T) {
	for _, v := range loadVectors(t).Cards {
		frames, _ := frame(v.Response, 64)
		if len(frames) != 1 {
			t.Fatalf("%s: %d frames", v.ID, len(frames))
		}
		text, photo, err := splitCard(frames[0].Data())
		if err != nil || !bytes.Equal(text, v.Text) || !bytes.Equal(photo, v.Photo) {
			t.Fatalf("%s: %v", v.ID, err)
		}
		card, warnings, err := ParseText(text)
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %v", v.ID, warnings, err)
		}
		p, err := json.Marshal(card)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(p, &got); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got, v.Expected) {
			t.Errorf("%s:\n got %v\nwant %v", v.ID, got, v.Expected)
		}
		var again Card
		if err := json.Unmarshal(p, &again); err != nil || again != card {
			t.Errorf("%s does not come back from JSON: %v", v.ID, err)
		}
	}
}

// put writes a text into a block, padded with spaces to n bytes.
func put(block []byte, offset, n int, text string) {
	units := utf16.Encode([]rune(text))
	for i := range n / 2 {
		u := uint16(' ')
		if i < len(units) {
			u = units[i]
		}
		block[offset+2*i], block[offset+2*i+1] = byte(u), byte(u>>8)
	}
}

func TestDoubtsAreWarnings(t *testing.T) {
	tests := map[string]struct {
		edit func(b []byte)
		want []Warning
		see  func(c Card) bool
	}{
		"untouched":          {func(b []byte) {}, nil, func(c Card) bool { return c.Name == "测试甲" }},
		"NUL padding":        {func(b []byte) { clear(b[6:30]); clear(b[220:256]) }, nil, func(c Card) bool { return c.Name == "测试甲" && c.Flag == " " }},
		"lone low surrogate": {func(b []byte) { b[0], b[1] = 0x00, 0xDC }, []Warning{{BadCharacter, "name"}}, func(c Card) bool { return c.Name == "\uFFFD试甲" }},
		"lone high at the end": {func(b []byte) { b[120], b[121] = 0x00, 0xD8 }, []Warning{{BadCharacter, "address"}},
			func(c Card) bool { return strings.HasSuffix(string(c.Address), "\uFFFD") }},
		"sex not in the table":   {func(b []byte) { b[30] = '7' }, []Warning{{UnknownCode, "sex_code"}}, func(c Card) bool { return c.SexCode == "7" && c.Sex == "" }},
		"sex not stated":         {func(b []byte) { b[30] = '9' }, nil, func(c Card) bool { return c.Sex == "未说明" }},
		"sex against the number": {func(b []byte) { b[30] = '2' }, []Warning{{SexMismatch, "sex_code"}}, func(c Card) bool { return c.Sex == "女" }},
		"nation 57":              {func(b []byte) { put(b, 32, 4, "57") }, []Warning{{UnknownCode, "nation_code"}}, func(c Card) bool { return c.NationCode == "57" && c.Nation == "" }},
		"birth against number":   {func(b []byte) { put(b, 36, 16, "19010204") }, []Warning{{BirthMismatch, "birth"}}, func(c Card) bool { return c.Birth == "1901-02-04" }},
		"no such day":            {func(b []byte) { put(b, 188, 16, "20210229") }, []Warning{{BadDate, "valid_from"}}, func(c Card) bool { return c.ValidFrom == "" }},
		"end of validity blank":  {func(b []byte) { put(b, 204, 16, "") }, []Warning{{BadDate, "valid_to"}}, func(c Card) bool { return c.ValidTo == "" && !c.LongTerm }},
		"check digit":            {func(b []byte) { put(b, 122, 36, "119999190102030010") }, []Warning{{BadNumber, "id_number"}}, func(c Card) bool { return !c.IDNumberValid && c.IDNumber != "" }},
		"foreigner's number":     {func(b []byte) { put(b, 122, 36, "999840190001010019"); put(b, 36, 16, "19000101") }, []Warning{{NumberMismatch, "id_number"}}, func(c Card) bool { return c.IDNumberValid }},
		"issuer blank":           {func(b []byte) { put(b, 158, 30, "") }, []Warning{{Blank, "issuer"}}, func(c Card) bool { return c.Issuer == "" }},
	}
	plain := vectorCardOf(t, "cn-01-plain").Text
	for name, tt := range tests {
		block := bytes.Clone(plain)
		tt.edit(block)
		c, warnings, err := ParseText(block)
		if err != nil || fmt.Sprint(warnings) != fmt.Sprint(tt.want) || !tt.see(c) {
			p, _ := json.Marshal(c)
			t.Errorf("%s: %v, %v, %s", name, warnings, err, p)
		}
	}
	if _, _, err := ParseText(plain[:255]); err == nil {
		t.Error("a block of 255 bytes was read")
	}
}

func TestNothingOfThePersonIsPrinted(t *testing.T) {
	v := vectorCardOf(t, "cn-01-plain")
	card, _, err := ParseText(v.Text)
	if err != nil {
		t.Fatal(err)
	}
	event := Event{Type: CardRead, Reader: "rd-05", Card: &card, Photo: v.Photo}
	var out bytes.Buffer
	for _, x := range []any{card, &card, event, &event, []Card{card}, map[string]*Card{"c": &card}, struct{ C Card }{card}, []Event{event}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
			fmt.Fprintf(&out, verb+"\n", x)
		}
		fmt.Fprintln(&out, x)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		log := slog.New(h)
		log.Info("x", "card", card, "pointer", &card, "event", event, "event_pointer", &event)
		log.With("card", card).WithGroup("g").Info("x", "card", card)
	}
	secrets := []string{"测试", "甲", "119999", "0203", "1901", "虚构", "男", "汉", fmt.Sprintf("%x", "测试甲"), fmt.Sprintf("%X", "测试甲"), "87 76", "574c"}
	for _, secret := range secrets {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q was printed", secret)
		}
	}
	if !strings.Contains(out.String(), redacted) || !strings.Contains(out.String(), "rd-05") {
		t.Error("cards and events print nothing at all")
	}
}

func TestNumbers(t *testing.T) {
	v := loadVectors(t).IDNumbers
	for _, n := range v.Valid18 {
		if err := CheckNumber(n); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
	for _, n := range v.Valid15 {
		if err := CheckNumber(n); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
	reasons := map[string]error{"check digit": errNumberCheck, "birth date 30 February": errNumberBirth, "length": errNumberLength}
	for _, n := range append(v.Invalid18, v.Invalid15...) {
		want, ok := reasons[n.Reason]
		if err := CheckNumber(n.Number); !ok || err != want {
			t.Errorf("%s: %v, want %s", n.Number, err, n.Reason)
		}
	}
	for _, d := range v.Derivations {
		if old, err := PreviousNumber(d.New, d.Nationality, d.Link); err != nil || old != d.Old {
			t.Errorf("%s with %s: %s, %v, want %s", d.New, d.Link, old, err, d.Old)
		}
	}
	if len(v.Valid15)*len(v.Invalid15)*len(v.Derivations) == 0 {
		t.Error("vectors without foreigners' numbers")
	}
	for _, n := range []string{"", "11999919010203001x", "1199991901020300１1", "11999919010203OO11", "+19999190102030011", "119999000001010013",
		"<<<999903010177", "USa999900010119", "USA9999000101A9", "US<A99900010119", "USA999900023019", "130503670401001"} {
		if CheckNumber(n) == nil {
			t.Errorf("%q passed", n)
		}
	}
}

func TestTables(t *testing.T) {
	if len(nations) != 58 || len(sexes) != 4 {
		t.Errorf("%d nations, %d sexes", len(nations), len(sexes))
	}
	for _, l := range append(layouts, stranger) {
		taken := map[int]string{}
		for _, f := range l.fields {
			for _, r := range f.runs {
				for i := r.offset; i < r.offset+r.len; i++ {
					if taken[i] != "" || i == letterOffset || i >= textSize {
						t.Errorf("%s: field %s overlaps at %d", l.cardType, f.name, i)
					}
					taken[i] = f.name
				}
				if r.offset%2+r.len%2 != 0 {
					t.Errorf("%s: field %s is odd", l.cardType, f.name)
				}
			}
		}
		if got := membersOfJSON(t, Card{Type: l.cardType}); len(got) != len(membersOf(l.cardType)) {
			t.Errorf("%s: JSON has the members %v", l.cardType, got)
		}
	}
}

func membersOfJSON(t testing.TB, c Card) (m map[string]any) {
	t.Helper()
	p, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(p, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// printField is a field as the card would hold it, without padding.
func printField(members map[string]any, name string) []byte {
	text, _ := members[name].(string)
	if text == "" && name == "valid_to" && members["long_term"] == true {
		text = "长期"
	}
	if _, err := time.Parse(time.DateOnly, text); err == nil {
		text = strings.ReplaceAll(text, "-", "")
	}
	b := make([]byte, 2*len(utf16.Encode([]rune(text))))
	put(b, 0, len(b), text)
	return b
}

func unpadded(b []byte) []byte {
	for len(b) >= 2 && b[len(b)-1] == 0 && (b[len(b)-2] == 0 || b[len(b)-2] == ' ') {
		b = b[:len(b)-2]
	}
	return b
}

func FuzzText(f *testing.F) {
	for _, v := range loadVectors(f).Cards {
		f.Add([]byte(v.Text))
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		c, warnings, err := ParseText(block)
		if err != nil {
			return
		}
		for _, s := range []Optional{c.Name, c.EnglishName, c.Address, c.IDNumber, c.PreviousIDNumber, c.Issuer, c.SexCode, c.NationCode} {
			if !utf8.ValidString(string(s)) {
				t.Fatalf("not UTF-8: %q", string(s))
			}
		}
		members := membersOfJSON(t, c)
		for _, l := range layouts {
			for _, field := range l.fields {
				doubted := slices.ContainsFunc(warnings, func(w Warning) bool { return w.Field == field.name && (w.Code == BadCharacter || w.Code == BadDate) })
				if raw := unpadded(field.bytes(block)); l.letter == c.Flag && !doubted && !bytes.Equal(printField(members, field.name), raw) {
					t.Fatalf("%s of %s prints as %x, was %x", field.name, l.cardType, printField(members, field.name), raw)
				}
			}
		}
		if c.IDNumberValid && CheckNumber(string(c.IDNumber)) != nil {
			t.Fatal("IDNumberValid is not what CheckNumber says")
		}
		for _, w := range warnings {
			if w.Code == "" || w.Field == "" {
				t.Fatalf("empty warning %+v", w)
			}
		}
	})
}

func FuzzNumber(f *testing.F) {
	v := loadVectors(f).IDNumbers
	for _, n := range v.Valid18 {
		f.Add(n)
	}
	for _, n := range v.Valid15 {
		f.Add(n)
	}
	for _, n := range append(v.Invalid18, v.Invalid15...) {
		f.Add(n.Number)
	}
	weights := []int{7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2}
	f.Fuzz(func(t *testing.T, n string) {
		if CheckNumber(n) != nil {
			return
		}
		if len(n) == 15 {
			if want := passportSum(n[:14]); int(n[14]-'0') != want {
				t.Fatalf("%s passed, its check digit is %d", n, want)
			}
			return
		}
		sum := 0
		for i, w := range weights { // the standard's other wording of the same rule
			sum += w * int(n[i]-'0')
		}
		if want := "10X98765432"[sum%11]; n[17] != want {
			t.Fatalf("%s passed, its check character is %c", n, want)
		}
	})
}

// passportSum works the check digit of ICAO 9303 out by a table.
func passportSum(s string) int {
	total := 0
	for i, c := range s {
		total += strings.IndexRune("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", c) * []int{7, 3, 1}[i%3]
		if c == '<' {
			total += []int{7, 3, 1}[i%3] // IndexRune counted -1
		}
	}
	return total % 10
}
