package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with a configuration file.
type Problem struct {
	Line    int    `json:"line"`   // from 1
	Column  int    `json:"column"` // from 1
	Key     string `json:"key"`    // path, such as readers[0].line
	Cause   string `json:"cause"`
	Hint    string `json:"hint,omitempty"`
	Warning bool   `json:"warning,omitempty"` // the file can be run all the same
}

// String is the problem as compilers write it, the hint on a line of its own.
func (p Problem) String() string {
	s := fmt.Sprintf("%d:%d: ", p.Line, p.Column)
	if p.Warning {
		s += "warning: "
	}
	if p.Key != "" {
		s += p.Key + ": "
	}
	s += p.Cause
	if p.Hint != "" {
		s += "\n    hint: " + p.Hint
	}
	return s
}

// Problems are in the order of the file.
type Problems []Problem

// Errors are the problems that forbid running.
func (ps Problems) Errors() Problems {
	return slices.DeleteFunc(slices.Clone(ps), func(p Problem) bool { return p.Warning })
}

// Print gives one block of text, each problem led by the file's name.
func (ps Problems) Print(file string) string {
	var b strings.Builder
	for _, p := range ps {
		fmt.Fprintf(&b, "%s:%s\n", file, p)
	}
	return b.String()
}

func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
