// Tests of the form of the plugin's source files, and of the words in all source files.

package gojinn

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
		for line := range strings.Lines(strings.ReplaceAll(source, "http.NoBody", "")) {
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

// The functions that ask whether the race detector is on are those of which the Makefile runs the tests without it as well.
func TestTestsWithoutTheRaceDetector(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile(`(?m)^without_race := (.*)$`).FindSubmatch(makefile)
	if pattern == nil {
		t.Fatal("the Makefile has no without_race")
	}
	again := regexp.MustCompile(string(pattern[1]))
	files, _ := filepath.Glob("*_test.go")
	found := 0
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, function := range strings.Split(string(text), "\nfunc ")[1:] {
			if !strings.Contains(function, "raceEnabled") || path == "sources_test.go" {
				continue
			}
			found++
			if name, _, _ := strings.Cut(function, "("); !again.MatchString(name) {
				t.Errorf("%s: %s asks for the race detector, and without_race in the Makefile does not match its name", path, name)
			}
		}
	}
	if found == 0 {
		t.Error("no test asks for the race detector")
	}
}

// Comments, texts and names of all languages use the words of the field. The few that are left are data, such as the path of a
// guest's file.
func TestWordsOfSources(t *testing.T) {
	const most = 4
	kinds := map[string]string{".rs": "Rust", ".c": "C", ".h": "C", ".go": "Go", ".md": "Markdown"}
	type use struct{ kind, word string }
	found := map[use][]string{}
	read := map[string]int{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			name := entry.Name()
			if name != ".." && strings.HasPrefix(name, ".") || slices.Contains([]string{"target", "build", "bin", "results"}, name) {
				return filepath.SkipDir
			}
			return nil
		}
		kind := kinds[filepath.Ext(path)]
		if kind == "" || filepath.Base(path) == "docs_prose_test.go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		read[kind]++
		source := strings.ReplaceAll(string(text), "http.NoBody", "")
		for number, line := range strings.Split(source, "\n") {
			for _, word := range avoided.FindAllString(line, -1) {
				u := use{kind, strings.TrimSuffix(strings.ToLower(word), "s")}
				found[u] = append(found[u], fmt.Sprintf("%s:%d: %s", path, number+1, strings.TrimSpace(line)))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		if read[kind] == 0 {
			t.Errorf("no file of %s was read", kind)
		}
	}
	for u, places := range found {
		if len(places) > most {
			t.Errorf("%s: %q is used %d times, %d are too many:\n%s", u.kind, u.word, len(places), most+1, strings.Join(places, "\n"))
		}
	}
}
