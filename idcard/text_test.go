package idcard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

func TestCardVectors(t *testing.T) {
	read := 0
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
		if v.Kind != "resident" {
			var kind *KindError
			if !errors.As(err, &kind) || kind.Letter != v.Expected["type_flag"] {
				t.Errorf("%s: %v, want a KindError", v.ID, err)
			}
			continue
		}
		read++
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
	if read != 5 {
		t.Errorf("%d resident cards read", read)
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
	reasons := map[string]error{"check digit": errNumberCheck, "birth date 30 February": errNumberBirth, "length": errNumberLength}
	for _, n := range v.Invalid18 {
		want, ok := reasons[n.Reason]
		if err := CheckNumber(n.Number); !ok || err != want {
			t.Errorf("%s: %v, want %s", n.Number, err, n.Reason)
		}
	}
	for _, n := range []string{"", "11999919010203001x", "1199991901020300１1", "11999919010203OO11", "+19999190102030011", "119999000001010013"} {
		if CheckNumber(n) == nil {
			t.Errorf("%q passed", n)
		}
	}
}

func TestTables(t *testing.T) {
	if len(nations) != 58 || len(sexes) != 4 {
		t.Errorf("%d nations, %d sexes", len(nations), len(sexes))
	}
	for _, l := range layouts {
		end := 0
		for _, f := range l.fields {
			if f.offset < end || f.len%2 != 0 || f.offset+f.len > letterOffset {
				t.Errorf("%s: field %s overlaps or is odd", l.cardType, f.name)
			}
			end = f.offset + f.len
		}
	}
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
		for _, s := range []Optional{c.Name, c.Address, c.IDNumber, c.Issuer, c.SexCode, c.NationCode} {
			if !utf8.ValidString(string(s)) {
				t.Fatalf("not UTF-8: %q", string(s))
			}
		}
		for _, field := range resident.fields { // what was decoded is what stands there
			text, whole := decode(block[field.offset : field.offset+field.len])
			back := make([]byte, field.len)
			copy(back, block[field.offset:])
			n := 2 * len(utf16.Encode([]rune(text)))
			put(back, 0, n, text)
			if whole && !bytes.Equal(back, block[field.offset:field.offset+field.len]) {
				t.Fatalf("%s: %q does not print back", field.name, text)
			}
		}
		if c.IDNumberValid != (CheckNumber(string(c.IDNumber)) == nil) {
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
	for _, n := range v.Invalid18 {
		f.Add(n.Number)
	}
	weights := []int{7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2}
	f.Fuzz(func(t *testing.T, n string) {
		if CheckNumber(n) != nil {
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
