// Tests of the form of the plugin's source files.

package gojinn

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each file begins with a sentence that says what it is, uses the words of the field, and ends with its interface guards.
func TestSources(t *testing.T) {
	guard := regexp.MustCompile(`(?m)^(var|\t) ?_ +\S+ += `)
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		source := string(text)
		if tag, rest, ok := strings.Cut(source, "\n\n"); ok && strings.HasPrefix(tag, "//go:build ") {
			source = rest
		}
		if !strings.HasPrefix(source, "// ") {
			t.Errorf("%s does not begin with a comment that says what it is", path)
		}
		if at := guard.FindStringIndex(source); at != nil {
			_, after, ok := strings.Cut(source, "\n// Interface guard")
			if !ok || strings.Contains(after, "\nfunc ") || strings.Contains(after, "\ntype ") {
				t.Errorf("%s does not end with its interface guards", path)
			}
		}
		if path == "docs_prose_test.go" {
			return nil // It has the words that are avoided.
		}
		for line := range strings.Lines(strings.NewReplacer(`json:"folder"`, "", "http.NoBody", "").Replace(source)) {
			if word := avoided.FindString(line); word != "" {
				t.Errorf("%s: %q: %s", path, word, strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
