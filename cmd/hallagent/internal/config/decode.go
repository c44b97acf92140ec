package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/hallagent/hallagent/device"
)

// decoder fills a struct from a syntax tree, keeps every problem it meets, and
// remembers where each key stands so that later checks can point there.
type decoder struct {
	places   map[string]place // by path
	flagged  map[string]bool  // paths that already have an error
	problems Problems
	syntax   bool // the text is no YAML: nothing else can be said
}

// place is a position in the file, both from 1.
type place struct{ line, column int }

// A value of the file that reads a part of the tree itself.
type nodeDecoder interface {
	decodeNode(d *decoder, path string, n ast.Node)
}

// A struct whose fields have defaults other than zero.
type defaulter interface{ defaults() }

// A struct that takes further keys of the same mapping into another struct,
// chosen by what was decoded so far; nil when it cannot be known.
type inliner interface{ inline() any }

func newDecoder() *decoder {
	return &decoder{places: map[string]place{}, flagged: map[string]bool{}}
}

// fail adds an error at a path, or at its nearest ancestor that stands in the
// file. Where the path or what contains it has an error already, there is no
// second one: it would be a consequence of the first.
func (d *decoder) fail(path, hint, format string, args ...any) {
	for _, p := range append(ancestors(path), path) {
		if d.flagged[p] {
			return
		}
	}
	d.flagged[path] = true
	d.add(path, d.find(path), false, hint, format, args...)
}

// ancestors are the paths of all that contains a path.
func ancestors(path string) (up []string) {
	for i, c := range path {
		if c == '.' || c == '[' {
			up = append(up, path[:i])
		}
	}
	return up
}

func (d *decoder) warn(path, hint, format string, args ...any) {
	d.add(path, d.find(path), true, hint, format, args...)
}

func (d *decoder) add(path string, at place, warning bool, hint, format string, args ...any) {
	d.problems = append(d.problems, Problem{
		Line: at.line, Column: at.column, Key: path,
		Cause: fmt.Sprintf(format, args...), Hint: hint, Warning: warning,
	})
}

// find gives the place of a path or of the nearest thing that contains it.
func (d *decoder) find(path string) place {
	for {
		if at, ok := d.places[path]; ok {
			return at
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return place{1, 1}
		}
		path = path[:cut]
	}
}

// has says whether a key stands in the file.
func (d *decoder) has(path string) bool {
	_, ok := d.places[path]
	return ok
}

func (d *decoder) sorted() Problems {
	d.problems.sort()
	return d.problems
}

func (d *decoder) decode(text []byte, into any) {
	text = unmark(text)
	if bad, at, found := notText(text); found {
		d.syntax = true
		d.add("", at, false, "save the file as UTF-8; editors offer it as the encoding", "byte 0x%02X is not UTF-8", bad)
		return
	}
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax = true
		at, cause := place{1, 1}, err.Error()
		if se, ok := errors.AsType[*yaml.SyntaxError](err); ok {
			at, cause = placeOf(se.Token), se.Message
		}
		d.add("", at, false, "YAML nests by spaces, never tabs; values with : or # need quotes", "%s", cause)
		return
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			d.add("", placeOf(doc.Body.GetToken()), false, "remove the line ---", "a second document")
			break
		}
		body = doc.Body
	}
	if body == nil {
		d.syntax = true
		d.add("", place{1, 1}, false, "start from the sample configuration", "the file is empty")
		return
	}
	d.value("", body, reflect.ValueOf(into).Elem())
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{t.Position.Line, t.Position.Column}
}

// value decodes one node into one Go value.
func (d *decoder) value(path string, n ast.Node, v reflect.Value) {
	if _, ok := d.places[path]; !ok {
		d.places[path] = placeOf(start(n))
	}
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.fail(path, "write the value out", "anchors, aliases and tags are not supported")
		return
	}
	if own, ok := v.Addr().Interface().(nodeDecoder); ok {
		own.decodeNode(d, path, n)
		return
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if s, ok := d.text(path, n); ok {
			if err := text.UnmarshalText([]byte(s)); err != nil {
				d.fail(path, "", "%v", err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(path, n, v)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(path, n, v.Elem())
	case reflect.Slice:
		d.sequence(path, n, v)
	default:
		d.scalar(path, n, v)
	}
}

// start is the first token of a node: for a mapping its first key, since the
// node's own token is the colon.
func start(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 && !n.IsFlowStyle {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

// entries gives the pairs of a mapping, or reports that the node is none.
func (d *decoder) entries(path string, n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	case *ast.NullNode:
		return nil, true
	}
	d.fail(path, "", "needs keys and values, not %s", describe(n))
	return nil, false
}

func (d *decoder) mapping(path string, n ast.Node, v reflect.Value) {
	if def, ok := v.Addr().Interface().(defaulter); ok {
		def.defaults()
	}
	entries, ok := d.entries(path, n)
	if !ok {
		return
	}
	fields := fieldsOf(v)
	known := keysOf(fields)
	var further []*ast.MappingValueNode
	seen := map[string]bool{}
	for _, e := range entries {
		key := e.Key.GetToken().Value
		sub := join(path, key)
		if seen[key] {
			d.add(sub, placeOf(e.Key.GetToken()), false, "remove one of the two", "stands twice in the same mapping")
			continue
		}
		seen[key] = true
		if field, ok := fields[key]; ok {
			d.places[sub] = valuePlace(e)
			d.value(sub, e.Value, field)
		} else {
			further = append(further, e)
		}
	}
	extra := map[string]reflect.Value{}
	if in, ok := v.Addr().Interface().(inliner); ok {
		more := in.inline()
		if more == nil {
			return // the kind itself is wrong: its keys cannot be judged
		}
		extra = fieldsOf(reflect.ValueOf(more).Elem())
		known = append(known, keysOf(extra)...)
	}
	for _, e := range further {
		key := e.Key.GetToken().Value
		sub := join(path, key)
		if field, ok := extra[key]; ok {
			d.places[sub] = valuePlace(e)
			d.value(sub, e.Value, field)
			continue
		}
		hint := "known here: " + strings.Join(known, ", ")
		if near := device.Nearest(key, known); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
			if !d.has(join(path, near)) {
				d.flagged[join(path, near)] = true // it is not missing, it is misspelt
			}
		}
		d.flagged[sub] = true
		d.add(sub, placeOf(e.Key.GetToken()), false, hint, "unknown key")
	}
}

// valuePlace is where the value of a pair begins, or its key when the value is
// on lines of its own or missing.
func valuePlace(e *ast.MappingValueNode) place {
	key, value := placeOf(e.Key.GetToken()), placeOf(start(e.Value))
	if value.line != key.line {
		return key
	}
	return value
}

func (d *decoder) sequence(path string, n ast.Node, v reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		if _, null := n.(*ast.NullNode); !null {
			d.fail(path, "write a list: [a, b], or one item a line, each led by -", "needs a list, not %s", describe(n))
		}
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		d.value(fmt.Sprintf("%s[%d]", path, i), item, v.Index(i))
	}
}

// text gives the characters of a scalar as they stand in the file, so that an
// unquoted 05 stays the two digits that were written.
func (d *decoder) text(path string, n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.BoolNode:
		return n.GetToken().Value, true
	case *ast.NullNode:
		d.fail(path, "", "has no value")
		return "", false
	}
	d.fail(path, "", "needs a single value, not %s", describe(n))
	return "", false
}

func (d *decoder) scalar(path string, n ast.Node, v reflect.Value) {
	s, ok := d.text(path, n)
	if !ok {
		return
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		dur, err := parseDuration(s)
		if err != nil {
			d.fail(path, "examples: 200ms, 10s, 5m, 183d", "%q is no duration", s)
			return
		}
		v.SetInt(int64(dur))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		if s != "true" && s != "false" {
			d.fail(path, "write true or false", "%q is neither true nor false", s)
			return
		}
		v.SetBool(s == "true")
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(s, base(s), v.Type().Bits())
		if err != nil {
			d.fail(path, "", "%q is no whole number", s)
			return
		}
		v.SetInt(i)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(s, base(s), v.Type().Bits())
		if err != nil {
			d.fail(path, fmt.Sprintf("0 to %d", uint64(1)<<v.Type().Bits()-1), "%q is no such number", s)
			return
		}
		v.SetUint(u)
	case reflect.Float64:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			d.fail(path, "", "%q is no number", s)
			return
		}
		v.SetFloat(f)
	default:
		panic(fmt.Sprintf("config: no way to decode %s into %s", path, v.Type()))
	}
}

// base lets a manual's register 0x0044 be written as it is printed; a leading
// zero alone means nothing, as people expect. ParseInt takes the 0x with base 0.
func base(s string) int {
	if strings.HasPrefix(s, "0x") && !strings.Contains(s, "_") {
		return 0
	}
	return 10
}

// parseDuration is time.ParseDuration with whole days added: 183d.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	dur, err := time.ParseDuration(s)
	if err == nil && dur < 0 {
		err = errors.New("negative")
	}
	return dur, err
}

// fieldsOf maps the yaml keys of a struct to its fields.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for f, field := range v.Fields() {
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key != "" && key != "-" {
			fields[key] = field
		}
	}
	return fields
}

func keysOf(fields map[string]reflect.Value) []string {
	keys := make([]string, 0, len(fields))
	for key := range fields {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	}
	return "a single value"
}
