package server

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/server/config"
	"carillon.im/server/feature"
	"carillon.im/server/features/caps"
)

//go:generate go test -count=1 -run=^TestXEPPage$ -update

var update = flag.Bool("update", false, "write docs/xeps.md")

const xepPage = "../docs/xeps.md"

// TestXEPPage holds docs/xeps.md to what the features declare.
func TestXEPPage(t *testing.T) {
	known := caps.New(caps.Options{})
	defer known.Close()
	list := features(config.Default(), nil, known, personal(nil, nil, time.Now), nil, nil, "test", slog.New(slog.DiscardHandler), time.Now)
	if _, err := feature.NewSet(list...); err != nil {
		t.Fatal(err)
	}
	want := page(list)
	if *update {
		if err := os.WriteFile(xepPage, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(xepPage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("docs/xeps.md is not what the features declare: run go generate ./server")
	}
}

func page(list []feature.Feature) []byte {
	type line struct{ xep, version, name, note string }
	var lines []line
	for _, f := range list {
		for _, s := range f.Specs {
			lines = append(lines, line{s.XEP, s.Version, f.Name, s.Note})
		}
	}
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.xep, b.xep) })
	var b bytes.Buffer
	b.WriteString("# Supported XEPs\n\nGenerated from the features' declarations by `go generate ./server`. RFC 6120, 6121, 7590 and 7622 besides.\n\n")
	b.WriteString("| XEP | version | feature | remarks |\n| --- | --- | --- | --- |\n")
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", l.xep, l.version, l.name, l.note)
	}
	return b.Bytes()
}
