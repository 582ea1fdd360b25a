package spec

import (
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"carillon.im/server/route"
)

var update = flag.Bool("update", false, "write docs/conformance.md")

var (
	requirementID = regexp.MustCompile(`(?:R-)?\b(?:MINE|IMNG|LOCK|THR|X2)-[0-9]+\b`) // R-MINE-2 is a rule
	ruleID        = regexp.MustCompile(`\bR-(?:INT|CONV|REFL|EXCL|FEED|ARCH|MINE|GW|SESS|BLOCK|ACC|DUP)-[0-9]+\b`)
)

// structural are the rules that no line of a decision can cite: they say how
// sessions, order, archive and borders work.
var structural = []string{"R-SESS-1", "R-SESS-2", "R-SESS-3", "R-REFL-3", "R-ARCH-3", "R-ARCH-4", "R-ARCH-5",
	"R-MINE-1", "R-MINE-5", "R-MINE-6", "R-MINE-7", "R-GW-1", "R-GW-2", "R-GW-5"}

// citations finds where the repository's code and tests cite ids, files by id.
func citations(t *testing.T, ids *regexp.Regexp) map[string][]string {
	t.Helper()
	found := map[string]map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(filepath.ToSlash(path), "../")
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == ".git" || name == "spec" || name == "docs" || strings.Contains(name, "node_modules") || strings.Contains(name, "testdata")):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(name) != ".go" && !(filepath.Ext(name) == ".txt" && strings.HasPrefix(name, "test/scripts/")):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, id := range ids.FindAllString(string(text), -1) {
			if ids == requirementID && strings.HasPrefix(id, "R-") {
				continue
			}
			if found[id] == nil {
				found[id] = map[string]bool{}
			}
			found[id][name] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]string{}
	for id, set := range found {
		files[id] = slices.Sorted(maps.Keys(set))
	}
	return files
}

func register(t *testing.T) []Requirement {
	t.Helper()
	list, err := Requirements()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func rules() map[string]bool {
	known := map[string]bool{}
	for r := range route.Rules() {
		known[r.String()] = true
	}
	for _, id := range structural {
		known[id] = true
	}
	return known
}

// TestRegister: 170 requirements, each with a status that is one.
func TestRegister(t *testing.T) {
	seen, known := map[string]bool{}, rules()
	for _, r := range register(t) {
		if seen[r.ID] || !requirementID.MatchString(r.ID) {
			t.Errorf("%s: twice, or no id", r.ID)
		}
		seen[r.ID] = true
		switch r.Status {
		case Done, Decided, Goal, NotApplicable:
		default:
			t.Errorf("%s: status %q", r.ID, r.Status)
		}
		for _, id := range ruleID.FindAllString(r.How, -1) {
			if !known[id] {
				t.Errorf("%s: there is no rule %s", r.ID, id)
			}
		}
	}
	if len(seen) != 170 {
		t.Errorf("%d requirements", len(seen))
	}
}

// TestCitations: what the server does is cited by code or test, what the client
// does by code and test of its own, and nothing that is cited doesn't exist.
func TestCitations(t *testing.T) {
	cited, all := citations(t, requirementID), map[string]bool{}
	for _, r := range register(t) {
		all[r.ID] = true
		if r.Server() && (r.Status == Done || r.Status == Decided) && len(cited[r.ID]) == 0 {
			t.Errorf("%s (%s) is %s by %s, and neither code nor test cites it", r.ID, r.What, r.Status, r.How)
		}
	}
	for _, r := range register(t) {
		if !r.Client() || r.Status == Goal || r.Status == NotApplicable {
			continue
		}
		code, tests := 0, 0
		for _, file := range cited[r.ID] {
			side := strings.HasPrefix(file, "client/") || strings.HasPrefix(file, "cmd/carillon/")
			switch {
			case strings.HasSuffix(file, "_test.go") && (side || strings.HasPrefix(file, "test/interop/")):
				tests++
			case side:
				code++
			}
		}
		if code == 0 || tests == 0 {
			t.Errorf("%s (%s) is %s by %s, and not cited by both the client's code and its tests: %v", r.ID, r.What, r.Status, r.How, cited[r.ID])
		}
	}
	for id, files := range cited {
		if !all[id] {
			t.Errorf("%v cite %s, which doesn't exist", files, id)
		}
	}
	known, cites := rules(), citations(t, ruleID)
	for id, files := range cites {
		if !known[id] {
			t.Errorf("%v cite the rule %s, which doesn't exist", files, id)
		}
	}
	for id := range known {
		if len(cites[id]) == 0 {
			t.Errorf("neither code nor test cites the rule %s", id)
		}
	}
}

// TestFoundingDocuments compares the register with the documents' list, where
// that is at hand.
func TestFoundingDocuments(t *testing.T) {
	const list = "../../shared/specs/founding/requirements.tsv"
	text, err := os.ReadFile(list)
	if err != nil {
		t.Skip("the founding documents are not beside this repository: ", list)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")[1:]
	have := register(t)
	if len(lines) != len(have) {
		t.Fatalf("%d requirements, the documents have %d", len(have), len(lines))
	}
	for i, line := range lines {
		f := strings.Split(line, "\t")
		if r := have[i]; r.ID != f[0] || r.Binds != f[3] || r.Level != f[4] {
			t.Errorf("%s, %s, %s; the documents: %s, %s, %s", r.ID, r.Binds, r.Level, f[0], f[3], f[4])
		}
	}
}

var documents = []struct{ id, title string }{
	{"MINE", "XEP-0259, Message Mine-ing"}, {"IMNG", "XEP-0409, IM Routing-NG"}, {"X2", "The XMPP 2.0 ideas"},
	{"LOCK", "XEP-0296, resource locking"}, {"THR", "XEP-0201, message threads"},
}

// TestConformancePage holds docs/conformance.md to the register and the code.
func TestConformancePage(t *testing.T) {
	const page = "../docs/conformance.md"
	want := conformance(t)
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil || string(got) != want {
		t.Errorf("docs/conformance.md is not what the register and the code say: run go generate ./spec (%v)", err)
	}
}

func conformance(t *testing.T) string {
	list, cited := register(t), citations(t, requirementID)
	var b strings.Builder
	b.WriteString(`# What became of the founding documents' requirements

Made by ` + "`go generate ./spec`" + ` from [spec/requirements.txt](../spec/requirements.txt) and from the code and tests that cite the requirements.
**done**: it holds, by the rule or place named ([routing](routing.md) explains the rules). **decided**: the documents contradict each other or are
silent, and the rule says what holds here. **goal**: an aim of the text. **n/a**: nothing that software could do. What binds clients is cited by the
client's code and by a test of it.

| document | requirements | done | decided | goal | n/a |
| --- | --- | --- | --- | --- | --- |
`)
	for _, d := range documents {
		n := map[string]int{}
		for _, r := range list {
			if r.Document() == d.id {
				n[r.Status]++
				n[""]++
			}
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d |\n", d.title, n[""], n[Done], n[Decided], n[Goal], n[NotApplicable])
	}
	for _, d := range documents {
		fmt.Fprintf(&b, "\n## %s\n\n| id | level | binds | about | status | how | cited by |\n| --- | --- | --- | --- | --- | --- | --- |\n", d.title)
		for _, r := range list {
			if r.Document() != d.id {
				continue
			}
			var links []string
			for _, f := range cited[r.ID] {
				links = append(links, fmt.Sprintf("[%s](../%s)", strings.TrimSuffix(filepath.Base(f), filepath.Ext(f)), f))
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", r.ID, r.Level, r.Binds, r.What, r.Status, r.How, strings.Join(links, ", "))
		}
	}
	return b.String()
}
