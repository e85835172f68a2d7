package check

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The manifest lists every committed binary with its hash, and the recipe above it; nothing else is committed.
func TestManifest(t *testing.T) {
	text, err := os.ReadFile("../SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	sums, recipes := map[string]string{}, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if recipe, found := strings.CutPrefix(line, "# "); found {
			file, _, _ := strings.Cut(recipe, ": ")
			recipes[file] = true
			continue
		}
		sum, file, found := strings.Cut(line, "  ")
		if !found || sums[file] != "" {
			t.Fatalf("SHA256SUMS: %q is not a new file with its hash", line)
		}
		sums[file] = sum
	}

	files, err := filepath.Glob("../*/*/*.wasm")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(file string) bool { return strings.HasPrefix(filepath.ToSlash(file), "../build/") })
	known := 0
	for _, limits := range prebuiltGuests {
		known += len(limits)
	}
	if len(files) != len(sums) || len(files) != known {
		t.Errorf("%d prebuilt guests, %d in SHA256SUMS, %d in the tests", len(files), len(sums), known)
	}
	for _, file := range files {
		name := filepath.ToSlash(strings.TrimPrefix(file, ".."+string(filepath.Separator)))
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(code)
		if got := hex.EncodeToString(sum[:]); got != sums[name] {
			t.Errorf("%s: hash %s, SHA256SUMS says %q; make -C guests update writes it", name, got, sums[name])
		}
		if !recipes[name] {
			t.Errorf("%s: SHA256SUMS has no recipe", name)
		}
	}
}

// prebuiltGuests are what the languages have, and the sizes that they must keep to, in bytes.
var prebuiltGuests = map[string]map[string]int{
	"hello": {"assemblyscript": 20_000, "c": 40_000, "cpp": 250_000, "rust": 80_000, "zig": 10_000},
	"cgi":   {"c": 40_000, "rust": 80_000},
	"calls": {"assemblyscript": 20_000, "c": 50_000, "cpp": 250_000, "rust": 130_000, "zig": 10_000},
	"next":  {"assemblyscript": 20_000, "c": 50_000, "cpp": 250_000, "rust": 130_000, "zig": 10_000},
}

func TestPrebuiltAreSmallAndNameNoMachine(t *testing.T) {
	here, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for guest, limits := range prebuiltGuests {
		for directory := range limits {
			file := filepath.Join("..", directory, guest, guest+".wasm")
			code, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(code) > limits[directory] {
				t.Errorf("%s: %d bytes, limit %d", file, len(code), limits[directory])
			}
			for _, path := range []string{here, home + "/", os.TempDir() + "/", "/home/", "/Users/", "/usr/", "/.cargo/", `:\`} {
				if bytes.Contains(code, []byte(path)) {
					t.Errorf("%s: the binary names %q, a path of the machine that built it", file, path)
				}
			}
		}
	}
}
