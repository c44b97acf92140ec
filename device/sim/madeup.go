package sim

import "fmt"

// MadeUp returns the n-th of many residents for demonstrations: the same n gives
// the same person. Names, places and numbers belong to nobody.
func MadeUp(n int) Person { return MadeUpOf(Resident, n) }

// MadeUpOf is MadeUp for cards of any kind. The first 10,000 of a kind have
// different numbers.
func MadeUpOf(kind Kind, n int) Person {
	n = max(n, -n)
	p := Person{Kind: kind, Name: madeUpName(n), Sex: "2", ValidFrom: "20240101", ValidTo: "20340101"}
	switch kind {
	case Foreigner2017, Foreigner2023:
		p.foreign(n)
	case HMT:
		p.permit(n)
	default:
		p.reside(n)
	}
	return p
}

func madeUpName(n int) string {
	family := []rune("测试样例虚构示范甲乙丙丁戊己庚辛壬癸")
	given := []rune("一二三四五六七八九十百千天地玄黄宇宙洪荒")
	return string([]rune{family[n%len(family)], given[n/len(family)%len(given)], given[n/7%len(given)]})
}

// sexOf the order digits of a number: odd ones are men's.
func sexOf(order int) string {
	return [2]string{"2", "1"}[order%2]
}

func (p *Person) reside(n int) {
	year, month, day := 1940+n%65, 1+n/3%12, 1+n/5%28
	order := n % 1000
	p.Sex = sexOf(order)
	p.Nation = fmt.Sprintf("%02d", 1+n%11*(n%4/3)) // mostly 01
	p.Birth = fmt.Sprintf("%04d%02d%02d", year, month, day)
	p.Address = fmt.Sprintf("虚构省样例市示范区不存在路%d号", n+1)
	p.Number = withCheckDigit(fmt.Sprintf("%02d9999%s%03d", 11+n%55, p.Birth, order))
	p.Issuer = "虚构市公安局示范分局"
	p.ValidFrom, p.ValidTo = "20200101", "20400101"
	if year < 1970 {
		p.ValidTo = "长期"
	}
}

// foreign fills a foreigner's card of either layout. Every third has no Chinese
// name, every fourth of the later layout a long English one.
func (p *Person) foreign(n int) {
	nations := []struct{ letters, digits string }{{"USA", "840"}, {"FRA", "250"}, {"JPN", "392"}, {"IRL", "372"}, {"XXA", "999"}}
	nation := nations[n%len(nations)]
	family := []string{"SAMPLE", "SPECIMEN", "EXAMPLE", "O'SAMPLE-TEST", "FICTITIOUS", "NOBODY"}
	given := []string{"TESTINA", "KIND", "ANNE MARIE", "NEMO", "STATELESS", "NOBODY", "UTOPIA"}
	p.EnglishName = family[n%len(family)] + ", " + given[n%len(given)]
	if n%3 == 2 {
		p.Name = ""
	}
	p.Nationality = nation.letters
	city, month, day := n/5%100, 1+n/500%12, 1+n%28
	p.Birth = fmt.Sprintf("190%d%02d%02d", n/6000%10, month, day)
	order := n % 10
	p.Sex = sexOf(order)
	if p.Kind == Foreigner2017 {
		p.ValidFrom, p.ValidTo = "20200101", "20300101"
		p.Version, p.Authority = "01", fmt.Sprintf("99%02d", city)
		p.Number = fmt.Sprintf("%s99%02d%s%d", nation.letters, city, p.Birth[2:], order)
		p.Number += string(passportDigit(p.Number))
		return
	}
	if n%4 == 3 {
		p.EnglishName += " OF A NAME THAT IS TOO LONG"
		p.EnglishName = p.EnglishName[:min(len(p.EnglishName), 46)]
	}
	p.Number = withCheckDigit(fmt.Sprintf("999%s%s%03d", nation.digits, p.Birth, city*10+order))
	p.Renewals = fmt.Sprintf("%02d", n%3)
	if n%3 > 0 {
		p.Previous = fmt.Sprintf("99%d", n%10)
	}
}

func (p *Person) permit(n int) {
	regions := []struct{ digits, permit string }{{"810000", "H00000000"}, {"820000", "M00000000"}, {"830000", "00000000"}}
	region := regions[n%len(regions)]
	order := n / 3 % 1000
	p.Sex = sexOf(order)
	p.Birth = fmt.Sprintf("190%d%02d%02d", n/3000%6, 1+n%12, 1+n%28)
	p.Address = fmt.Sprintf("虚构省样例市示范区不存在路%d号", n+1)
	p.Number = withCheckDigit(fmt.Sprintf("%s%s%03d", region.digits, p.Birth, order))
	p.Issuer = "虚构市公安局"
	p.ValidTo = "20290101"
	p.Permit, p.Issues = region.permit, fmt.Sprintf("%02d", 1+n%4)
}

func withCheckDigit(digits string) string { return digits + string(checkDigit(digits)) }

// checkDigit of the first 17 digits by ISO 7064 MOD 11-2 (GB 11643).
func checkDigit(digits string) byte {
	sum := 0
	for _, d := range digits {
		sum = (sum + int(d-'0')) * 2 % 11
	}
	return "10X98765432"[sum]
}

// passportDigit is the check digit of machine-readable passports (ICAO 9303):
// letters count from A = 10, weights are 7, 3, 1 in turns.
func passportDigit(s string) byte {
	sum := 0
	for i, c := range s {
		v := int(c - '0')
		if c >= 'A' {
			v = int(c-'A') + 10
		}
		sum += v * [3]int{7, 3, 1}[i%3]
	}
	return '0' + byte(sum%10)
}
