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

var update = flag.Bool("update", false, "write docs/xeps.md and docs/compliance.md")

const xepPage = "../docs/xeps.md"

// TestXEPPage holds docs/xeps.md and docs/compliance.md to what the features declare.
func TestXEPPage(t *testing.T) {
	known := caps.New(caps.Options{})
	defer known.Close()
	list := features(config.Default(), nil, known, personal(nil, nil, time.Now), nil, nil, "test", slog.New(slog.DiscardHandler), time.Now, nil, nil)
	if _, err := feature.NewSet(list...); err != nil {
		t.Fatal(err)
	}
	holdPage(t, xepPage, page(list))
	holdPage(t, compliancePage, compliance(list))
}

// holdPage holds a generated page to what it should be.
func holdPage(t *testing.T, file string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s is not what the features declare: run go generate ./server", file)
	}
}

func page(list []feature.Feature) []byte {
	type line struct{ xep, version, name, note string }
	var lines []line
	var rfcs []string
	for _, f := range list {
		for _, s := range f.Specs {
			if s.RFC != "" {
				rfcs = append(rfcs, s.RFC)
				continue
			}
			lines = append(lines, line{s.XEP, s.Version, f.Name, s.Note})
		}
	}
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.xep, b.xep) })
	var b bytes.Buffer
	slices.Sort(rfcs)
	last := len(rfcs) - 1
	fmt.Fprintf(&b, "# Supported XEPs\n\nGenerated from the features' declarations by `go generate ./server`. RFC %s and %s besides.\n\n", strings.Join(rfcs[:last], ", "), rfcs[last])
	b.WriteString("| XEP | version | feature | remarks |\n| --- | --- | --- | --- |\n")
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", l.xep, l.version, l.name, l.note)
	}
	return b.Bytes()
}
