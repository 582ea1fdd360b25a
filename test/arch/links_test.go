package arch

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// TestLinks: what a page of the project links to inside of it is there, and so is the heading after #.
func TestLinks(t *testing.T) {
	root := filepath.Join("..", "..")
	anchors := make(map[string]map[string]bool) // by page, read when first asked for
	links := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (name == "node_modules" || name == "testdata" || strings.HasPrefix(name, ".") && path != root):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(name) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, target := range targets(string(text)) {
			links++
			u, err := url.Parse(target)
			if err != nil {
				t.Errorf("%s: link %s: %v", path, target, err)
				continue
			}
			to := path
			if u.Path != "" {
				to = filepath.Join(filepath.Dir(path), filepath.FromSlash(u.Path))
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: link %s leads nowhere", path, target)
				continue
			}
			if u.Fragment == "" {
				continue
			}
			if anchors[to] == nil {
				page, err := os.ReadFile(to)
				if err != nil {
					return err
				}
				anchors[to] = headings(string(page))
			}
			if !anchors[to][u.Fragment] {
				t.Errorf("%s: link %s: no such heading there", path, target)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if links == 0 {
		t.Error("no link found: the test looks in the wrong place")
	}
}

var (
	link = regexp.MustCompile(`\]\(([^)\s]+)\)|(?m:^\[[^\]]+\]:\s*(\S+))`)
	code = regexp.MustCompile("(?ms:^```.*?^```)|`[^`\n]*`|(?m:^    .*$)")
	head = regexp.MustCompile(`(?m)^#{1,6} +(.*?)\s*$`)
	mark = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)
	text = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// targets returns what a page links to without naming a scheme or a host.
func targets(page string) []string {
	var out []string
	for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(page, ""), -1) {
		if to := m[1] + m[2]; !strings.Contains(to, "://") && !strings.HasPrefix(to, "mailto:") && !strings.HasPrefix(to, "xmpp:") {
			out = append(out, to)
		}
	}
	return out
}

// headings returns the anchors of a page: its headings as web sites that show Markdown name them, and explicit ones.
func headings(page string) map[string]bool {
	out := make(map[string]bool)
	for _, m := range mark.FindAllStringSubmatch(page, -1) {
		out[m[1]] = true
	}
	for _, m := range head.FindAllStringSubmatch(page, -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, text.ReplaceAllString(m[1], "$1"))
		out[name] = true
	}
	return out
}

func TestLinksAreFound(t *testing.T) {
	page := "See [a](a.md#b), [c][1] and `[no](x)`.\n\n    [no](y)\n\n```\n[no](z)\n```\n[web](https://example.org)\n[1]: c.md\n"
	if got := strings.Join(targets(page), " "); got != "a.md#b c.md" {
		t.Errorf("links: %s", got)
	}
	found := headings("# What `user add` does, and [why](x.md)\n<a id=\"own\"></a>\n## 1. Two_words\n")
	for _, want := range []string{"what-user-add-does-and-why", "own", "1-two_words"} {
		if !found[want] {
			t.Errorf("no %q in %v", want, found)
		}
	}
}
