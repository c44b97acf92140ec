package device

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Catalog is the explicit list of the kinds of one sort of device. K embeds
// Kind, which is all that is needed to be listed.
type Catalog[K Described] []K

// Described is met by Kind and by every struct that embeds it.
type Described interface{ describe() Kind }

func (k Kind) describe() Kind { return k }

// Find returns the kind of that name. An unknown name is answered with the
// known ones, and a name listed twice is refused rather than chosen from.
func (c Catalog[K]) Find(name string) (K, error) {
	var found, none K
	n := 0
	for _, k := range c {
		if k.describe().Name == name {
			found = k
			n++
		}
	}
	switch n {
	case 1:
		return found, nil
	case 0:
		return none, fmt.Errorf("unknown kind %q; %sknown: %s", name, didYouMean(name, c.Names()), strings.Join(c.Names(), ", "))
	}
	return none, fmt.Errorf("kind %q is listed %d times", name, n)
}

// Names lists the kinds by name, sorted.
func (c Catalog[K]) Names() []string {
	var names []string
	for _, k := range c {
		names = append(names, k.describe().Name)
	}
	slices.Sort(names)
	return names
}

// Check tells what is wrong with the list itself: names missing or given twice,
// kinds without a line of documentation.
func (c Catalog[K]) Check() error {
	var errs []error
	seen := map[string]bool{}
	for i, k := range c {
		d := k.describe()
		if d.Name == "" {
			errs = append(errs, fmt.Errorf("kind at place %d has no name", i))
		}
		if seen[d.Name] {
			errs = append(errs, fmt.Errorf("kind %q is listed twice", d.Name))
		}
		if d.Doc == "" || strings.ContainsRune(d.Doc, '\n') {
			errs = append(errs, fmt.Errorf("kind %q needs one line of documentation", d.Name))
		}
		seen[d.Name] = true
	}
	return errors.Join(errs...)
}

// Nearest gives the known name that a misspelt one most likely means: at most
// two letters away. It is "" when none is.
func Nearest(name string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := editDistance(name, k); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	return best
}

// didYouMean returns `did you mean "x"? `, or nothing.
func didYouMean(name string, known []string) string {
	if best := Nearest(name, known); best != "" {
		return fmt.Sprintf("did you mean %q? ", best)
	}
	return ""
}

// editDistance is Levenshtein's, in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}
