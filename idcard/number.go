package idcard

import (
	"errors"
	"fmt"
	"time"
)

// Reasons why CheckNumber refuses a number.
var (
	errNumberLength    = errors.New("number has neither 18 nor 15 characters")
	errNumberCharacter = errors.New("number has a character that does not belong there")
	errNumberBirth     = errors.New("number holds no date of birth")
	errNumberCheck     = errors.New("check digit of number is wrong")
)

// CheckNumber checks the number of a card.
//
// 18 characters are a citizen number (GB 11643): 17 digits, of which 7 to 14 are
// a date YYYYMMDD, and a check character of ISO 7064 MOD 11-2 with an upper-case
// X for ten. The region is not looked at: cards keep codes that were abolished.
// Permanent residence cards of 2023 and residence permits follow the same rule.
//
// 15 characters are the number of a permanent residence card of 2017: three
// letters of the nationality (< fills), four digits of the accepting place, birth
// YYMMDD, an order digit and the check digit of machine-readable passports
// (ICAO 9303: weights 7, 3, 1; A to Z count 10 to 35, < counts 0).
//
// Anything else is an error, the citizen number of 15 digits that was given out
// until 1999 too: no chip holds one.
func CheckNumber(number string) error {
	switch len(number) {
	case 18:
		return checkCitizen(number)
	case 15:
		return checkForeigner(number)
	}
	return errNumberLength
}

func checkCitizen(number string) error {
	sum := 0
	for i := range 17 {
		if !isDigit(number[i]) {
			return errNumberCharacter
		}
		sum = (sum + int(number[i]-'0')) * 2 % 11
	}
	last := 0
	switch c := number[17]; {
	case isDigit(c):
		last = int(c - '0')
	case c == 'X':
		last = 10
	default:
		return errNumberCharacter
	}
	if _, ok := parseDate(number[6:14]); !ok {
		return errNumberBirth
	}
	if (sum+last)%11 != 1 {
		return errNumberCheck
	}
	return nil
}

func checkForeigner(number string) error {
	country := fill(number[:3])
	if country == "" {
		return errNumberCharacter
	}
	for i := range len(country) {
		if !isLetter(country[i]) {
			return errNumberCharacter
		}
	}
	for i := 3; i < 15; i++ {
		if !isDigit(number[i]) {
			return errNumberCharacter
		}
	}
	// The century is not in the number; a leap day is one in either of them.
	_, in1900s := parseDate("19" + number[7:13])
	_, in2000s := parseDate("20" + number[7:13])
	if !in1900s && !in2000s {
		return errNumberBirth
	}
	if passportDigit(number[:14]) != number[14] {
		return errNumberCheck
	}
	return nil
}

// passportDigit is the check digit of machine-readable passports over letters,
// digits and <.
func passportDigit(s string) byte {
	weights, sum := [...]int{7, 3, 1}, 0
	for i := range len(s) {
		value := 0
		switch c := s[i]; {
		case isDigit(c):
			value = int(c - '0')
		case isLetter(c):
			value = int(c-'A') + 10
		}
		sum += value * weights[i%3]
	}
	return byte('0' + sum%10)
}

// PreviousNumber gives the number of 15 characters that the holder of a
// permanent residence card of 2023 had before: nationality are its three
// letters, link the three digits of the card that lead there.
func PreviousNumber(number, nationality, link string) (string, error) {
	if len(number) != 18 || len(nationality) != 3 || len(link) != 3 {
		return "", errNumberLength
	}
	old := nationality + number[1:3] + link[:2] + number[8:14] + link[2:]
	old += string(passportDigit(old))
	if err := checkForeigner(old); err != nil {
		return "", fmt.Errorf("derive previous number: %w", err)
	}
	return old, nil
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'A' <= c && c <= 'Z' }

// parseDate turns YYYYMMDD into YYYY-MM-DD if it is a day of the calendar.
func parseDate(s string) (Optional, bool) {
	t, err := time.Parse("20060102", s)
	if err != nil || len(s) != 8 || t.Year() == 0 {
		return "", false
	}
	return Optional(t.Format(time.DateOnly)), true
}
