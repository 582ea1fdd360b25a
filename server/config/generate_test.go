package config

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated files")

// TestGenerated holds default.toml and docs/configuration.md to what the struct, its comments and Default say. With -update it writes them.
func TestGenerated(t *testing.T) {
	tables := describe(t)
	for name, want := range map[string][]byte{
		"default.toml": writeDefault(tables),
		filepath.Join("..", "..", "docs", "configuration.md"): writeReference(tables),
	} {
		if *update {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from the struct: run go generate ./server/config", name)
		}
	}
}

// table is one TOML table; the first has no name.
type table struct {
	name string
	doc  string
	keys []keyDoc
	open bool // its keys are the user's
	many bool // there may be any number of it
}

type keyDoc struct {
	name  string
	doc   string // empty: the key belongs to the one before
	value string // the default as TOML
	kind  string
}

// describe reads the comments of the struct's fields and pairs them with the defaults.
func describe(t *testing.T) []table {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	docs := make(map[string]string) // Type.Field
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				for _, name := range f.Names {
					docs[spec.Name.Name+"."+name.Name] = strings.TrimSpace(f.Doc.Text())
				}
			}
		}
		return false
	})
	defaults := reflect.ValueOf(Default())
	root := describeTable(t, docs, "", "", defaults)
	tables := []table{root}
	for f := range defaults.Type().Fields() {
		name, doc := f.Tag.Get("toml"), docs["Config."+f.Name]
		switch f.Type.Kind() {
		case reflect.Struct:
			tables = append(tables, describeTable(t, docs, name, doc, defaults.FieldByIndex(f.Index)))
		case reflect.Map:
			tables = append(tables, table{name: name, doc: doc, open: true})
		case reflect.Slice:
			if f.Type.Elem().Kind() == reflect.Struct {
				tables = append(tables, table{name: name, doc: doc, open: true, many: true})
			}
		}
	}
	return tables
}

func describeTable(t *testing.T, docs map[string]string, name, doc string, v reflect.Value) table {
	t.Helper()
	out := table{name: name, doc: doc}
	if name != "" && doc == "" {
		t.Errorf("table %s has no comment", name)
	}
	for f := range v.Type().Fields() {
		k := keyDoc{name: f.Tag.Get("toml"), doc: docs[v.Type().Name()+"."+f.Name]}
		if k.name == "" {
			t.Errorf("%s.%s has no toml tag", v.Type().Name(), f.Name)
		}
		switch x := v.FieldByIndex(f.Index).Interface().(type) {
		case string:
			k.kind, k.value = "string", strconv.Quote(x)
		case bool:
			k.kind, k.value = "true or false", strconv.FormatBool(x)
		case int:
			k.kind, k.value = "number", strconv.Itoa(x)
		case []string:
			quoted := make([]string, len(x))
			for i := range x {
				quoted[i] = strconv.Quote(x[i])
			}
			k.kind, k.value = "list of strings", "["+strings.Join(quoted, ", ")+"]"
		default:
			continue // a table
		}
		if k.doc == "" && k.name != "key" { // which "cert" describes too
			t.Errorf("key %s has no comment", k.name)
		}
		out.keys = append(out.keys, k)
	}
	return out
}

func writeDefault(tables []table) []byte {
	var b bytes.Buffer
	b.WriteString("# carillon's configuration, every key at its default. Keys left out keep their default.\n# Flags of \"carillon serve\" override the file.\n")
	for _, t := range tables {
		if t.name != "" {
			b.WriteString("\n")
			comment(&b, t.doc)
			if !t.many {
				fmt.Fprintf(&b, "[%s]\n", t.name)
			}
		}
		for i, k := range t.keys {
			if k.doc != "" {
				if t.name == "" || i > 0 {
					b.WriteString("\n")
				}
				comment(&b, k.doc)
			}
			fmt.Fprintf(&b, "%s = %s\n", k.name, k.value)
		}
	}
	return b.Bytes()
}

// comment writes text as TOML comments of at most 100 columns.
func comment(b *bytes.Buffer, text string) {
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		if strings.HasPrefix(paragraph, "\t") {
			for line := range strings.SplitSeq(paragraph, "\n") {
				b.WriteString("#   " + strings.TrimPrefix(line, "\t") + "\n")
			}
			continue
		}
		line := "#"
		for word := range strings.FieldsSeq(paragraph) {
			if len(line)+1+len(word) > 100 {
				b.WriteString(line + "\n")
				line = "#"
			}
			line += " " + word
		}
		b.WriteString(line + "\n")
	}
}

func writeReference(tables []table) []byte {
	var b bytes.Buffer
	b.WriteString(`# Configuration

<!-- Generated from server/config/config.go by go generate ./server/config. Do not edit. -->

carillon needs no configuration file. ` + "`carillon serve --config FILE`" + ` reads one in TOML; ` + "`carillon config`" + ` prints one with every key
at its default. A key that does not exist is an error that names its line. Flags override the file: ` + "`--data`, `--domain`, `--c2s`, `--c2s-tls`,\n`--http`, `--cert`, `--key`, `--log-level` and `--log-format`" + ` stand for the keys of the same name, and ` + "`--set limits.resume_seconds=300`" + ` sets any other.
`)
	for _, t := range tables {
		if t.name != "" {
			fmt.Fprintf(&b, "\n## [%s]\n\n", t.name)
			markdown(&b, t.doc)
		} else {
			b.WriteString("\n## Top of the file\n")
		}
		if len(t.keys) > 0 {
			b.WriteString("\n| key | default | |\n| --- | --- | --- |\n")
		}
		for i, k := range t.keys {
			doc := k.doc
			if doc == "" {
				doc = "See `" + t.keys[i-1].name + "`."
			}
			fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", k.name, k.value, strings.ReplaceAll(doc, "\n", " "))
		}
	}
	return b.Bytes()
}

func markdown(b *bytes.Buffer, text string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			b.WriteString("\n")
		}
		if strings.HasPrefix(paragraph, "\t") {
			b.WriteString("```toml\n" + strings.ReplaceAll(strings.TrimPrefix(paragraph, "\t"), "\n\t", "\n") + "\n```\n")
			continue
		}
		b.WriteString(paragraph + "\n")
	}
}
