package idcard

import (
	"errors"
	"time"
)

// Reasons why CheckNumber refuses a number.
var (
	errNumberLength    = errors.New("number has not 18 characters")
	errNumberCharacter = errors.New("number has a character other than digits and a last X")
	errNumberBirth     = errors.New("number holds no date of birth")
	errNumberCheck     = errors.New("check digit of number is wrong")
)

// CheckNumber checks an 18-character citizen number (GB 11643): 17 digits, of
// which 7 to 14 are a date YYYYMMDD, and a check character of ISO 7064 MOD 11-2
// with an upper-case X for ten. The region is not looked at: cards keep codes
// that were abolished. Permanent residence cards of 2023 and residence permits
// follow the same rule.
func CheckNumber(number string) error {
	if len(number) != 18 {
		return errNumberLength
	}
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

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// parseDate turns YYYYMMDD into YYYY-MM-DD if it is a day of the calendar.
func parseDate(s string) (Optional, bool) {
	t, err := time.Parse("20060102", s)
	if err != nil || len(s) != 8 || t.Year() == 0 {
		return "", false
	}
	return Optional(t.Format(time.DateOnly)), true
}
