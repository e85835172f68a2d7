// Tests of the prose, the links and the map of the code in the docs.

package gojinn

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

var (
	fenced  = regexp.MustCompile("(?ms)^```.*?^```$")
	inline  = regexp.MustCompile("`[^`\n]*`")
	avoided = regexp.MustCompile(`(?i)\b(nobody|somebody|whoever|anew|of its own|stands?|folders?)\b`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// A page without its code: fenced blocks, indented blocks and inline code.
func prose(page string) string {
	page = fenced.ReplaceAllString(page, "")
	var lines []string
	for _, line := range strings.Split(page, "\n") {
		if !strings.HasPrefix(line, "    ") && !strings.HasPrefix(line, "\t") {
			lines = append(lines, inline.ReplaceAllString(line, "x"))
		}
	}
	return strings.Join(lines, "\n")
}

// Pages are written in the words of the field, in lines that fit a screen.
func TestDocsProse(t *testing.T) {
	comment := regexp.MustCompile(`<!--.*?-->`)
	for name, page := range pages(t) {
		for line := range strings.Lines(prose(page)) {
			if word := avoided.FindString(line); word != "" {
				t.Errorf("%s: %q: %s", name, word, strings.TrimSpace(line))
			}
		}
		for _, line := range strings.Split(fenced.ReplaceAllString(page, ""), "\n") {
			line = comment.ReplaceAllString(line, "")
			if strings.HasPrefix(line, "|") || strings.HasPrefix(line, "    ") || strings.Contains(line, "](") {
				continue // Tables, commands and links cannot be broken.
			}
			if n := utf8.RuneCountInString(line); n > 120 {
				t.Errorf("%s: a line of %d characters: %s", name, n, line)
			}
		}
	}
}

// Links between pages, and into them, lead somewhere.
func TestDocsLinks(t *testing.T) {
	all := pages(t)
	for name, page := range all {
		for _, match := range link.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
			target, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := filepath.Join(filepath.Dir(name), target)
			if target == "" {
				path = name
			}
			if _, err := os.Stat("../" + path); err != nil {
				t.Errorf("%s: no file for %s", name, match[1])
				continue
			}
			if anchor != "" && !hasAnchor(all[path], anchor) {
				t.Errorf("%s: no heading for %s", name, match[1])
			}
		}
	}
}

// Whether GitHub gives a heading of the page that anchor.
func hasAnchor(page, anchor string) bool {
	for _, match := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		var id strings.Builder
		for _, r := range strings.ToLower(match[1]) {
			switch {
			case r == ' ':
				id.WriteByte('-')
			case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 127:
				id.WriteRune(r)
			}
		}
		if id.String() == anchor {
			return true
		}
	}
	return false
}

// docs/architecture.md names each module of engine-core, and each crate.
func TestDocsNameEveryModule(t *testing.T) {
	page := readDoc(t, "architecture.md")
	entries, err := os.ReadDir("../engine-core/src")
	if err != nil {
		t.Fatal(err)
	}
	_, modules, _ := strings.Cut(page, "## Code map: engine-core")
	modules, _, _ = strings.Cut(modules, "\n## ")
	for _, entry := range entries {
		name := strings.TrimSuffix(entry.Name(), ".rs")
		if name != "lib" && name != "fake" && !strings.Contains(modules, "`"+name+"`") && !strings.Contains(modules, " "+name) {
			t.Errorf("docs/architecture.md has nothing of engine-core/src/%s", entry.Name())
		}
	}
	manifest, err := os.ReadFile("../Cargo.toml")
	if err != nil {
		t.Fatal(err)
	}
	members, _, _ := strings.Cut(string(manifest), "[workspace.package]")
	for _, match := range regexp.MustCompile(`(?m)^ +"([^"]+)",$`).FindAllStringSubmatch(members, -1) {
		if !strings.Contains(page, match[1]) {
			t.Errorf("docs/architecture.md has nothing of the crate %s", match[1])
		}
	}
}
