package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Parse lays the TOML document over c, so that keys the document leaves out keep their value. name is the file's, for messages. Every unknown key is
// an error that names its line and the nearest known key. Parse does not judge values: Check does, when flags have been applied too.
func Parse(c *Config, name string, document []byte) error {
	dec := toml.NewDecoder(bytes.NewReader(document))
	dec.DisallowUnknownFields()
	err := dec.Decode(c)
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		errs := make([]error, len(strict.Errors))
		for i := range strict.Errors {
			line, _ := strict.Errors[i].Position()
			errs[i] = fmt.Errorf("%s:%d: %w", name, line, unknown(strict.Errors[i].Key()))
		}
		return errors.Join(errs...)
	}
	if wrong, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := wrong.Position()
		message := strings.TrimPrefix(wrong.Error(), "toml: ")
		key := strings.Join(wrong.Key(), ".")
		if want := wanted(wrong.Key()); want != "" && (strings.HasPrefix(message, "cannot ") || strings.HasPrefix(message, "integer value")) {
			// The library's words for a value of another type are those of Go.
			return fmt.Errorf("%s:%d: %s: wanted %s", name, line, key, want)
		}
		if key != "" {
			message = key + ": " + message
		}
		return fmt.Errorf("%s:%d:%d: %s", name, line, column, message)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Set gives one key its value, as the flag --set key=value does. The value is written as in the file, except that quotes around a string may be left
// out and that a list may be written with commas.
func Set(c *Config, assignment string) error {
	key, value, ok := strings.Cut(assignment, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if !ok || key == "" {
		return fmt.Errorf("%q: wanted key=value, for example limits.resume_seconds=300", assignment)
	}
	kind, ok := keys()[key]
	if !ok {
		return unknown(strings.Split(key, "."))
	}
	switch {
	case kind == reflect.String && !strings.HasPrefix(value, `"`) && !strings.HasPrefix(value, `'`):
		value = quote(value)
	case kind == reflect.Slice && !strings.HasPrefix(value, "["):
		list := strings.Split(value, ",")
		for i := range list {
			list[i] = quote(strings.TrimSpace(list[i]))
		}
		value = "[" + strings.Join(list, ",") + "]"
	}
	if Parse(c, "", []byte(key+" = "+value)) != nil {
		return fmt.Errorf("--set %s: wanted %s", assignment, wanted(strings.Split(key, ".")))
	}
	return nil
}

// quote writes s as a TOML basic string.
func quote(s string) string {
	b, err := toml.Marshal(map[string]string{"s": s})
	if err != nil {
		return `""` // not reached: every string has a TOML form
	}
	return strings.TrimSpace(strings.TrimPrefix(string(b), "s = "))
}

// wanted says what kind of value stands behind a key, as a file has it; "" for a key that there isn't.
func wanted(key []string) string {
	t := reflect.TypeFor[Config]()
	for _, part := range key {
		switch t.Kind() {
		case reflect.Map:
			t = t.Elem()
			continue
		case reflect.Slice:
			if t = t.Elem(); t.Kind() != reflect.Struct {
				return ""
			}
		case reflect.Struct:
		default:
			return ""
		}
		found := false
		for f := range t.Fields() {
			if f.Tag.Get("toml") == part {
				t, found = f.Type, true
				break
			}
		}
		if !found {
			return ""
		}
	}
	name := strings.Join(key, ".")
	switch t.Kind() {
	case reflect.String:
		return "a string, as in " + name + ` = "…"`
	case reflect.Bool:
		return "true or false, without quotes"
	case reflect.Int:
		return "a whole number, without quotes"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return "tables, each beginning with [[" + name + "]]"
		}
		return "a list of strings, as in " + name + ` = ["…", "…"]`
	}
	// The library names the outermost key also where a value inside of { } is at fault.
	return "a table, [" + name + "], with values as \"carillon config\" shows them"
}

// keys returns every key that has a value, dotted, with the kind of the value.
func keys() map[string]reflect.Kind {
	all := make(map[string]reflect.Kind)
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for f := range t.Fields() {
			name := prefix + f.Tag.Get("toml")
			switch f.Type.Kind() {
			case reflect.Struct:
				walk(f.Type, name+".")
			case reflect.Map: // its keys are the user's
			case reflect.Slice:
				if f.Type.Elem().Kind() != reflect.Struct { // tables have no value of their own
					all[name] = f.Type.Kind()
				}
			default:
				all[name] = f.Type.Kind()
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return all
}

// unknown is the error for a key that does not exist, with the nearest one that does.
func unknown(parts []string) error {
	key := strings.Join(parts, ".")
	last := parts[len(parts)-1]
	best, bestCost := "", 2+len(key)/3 // from there on, it is another word
	var names []string
	for name := range keys() {
		names = append(names, name)
		if table, _, inside := strings.Cut(name, "."); inside && !slices.Contains(names, table) {
			names = append(names, table)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		cost := Distance(key, name)
		// The right name in the wrong table is one mistake.
		if name[strings.LastIndexByte(name, '.')+1:] == last {
			cost = min(cost, 1)
		}
		if cost < bestCost {
			best, bestCost = name, cost
		}
	}
	if best == "" {
		return fmt.Errorf("unknown key %q (\"carillon config\" prints all there are)", key)
	}
	return fmt.Errorf("unknown key %q: did you mean %q?", key, best)
}

// Distance is the number of letters to insert, remove or replace to turn a into b: how far a misspelling is from a name.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
