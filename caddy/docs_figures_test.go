// Tests that hold the figures in README.md and docs/ to the tables of docs/benchmarks.md.
//
// A figure is a number with a comment right behind it. The comment names it, and a comment at the end of the page says
// for each name where the figure comes from:
//
//	2.7 times<!-- figure parked --> less CPU time
//
//	<!-- figures
//	parked: ratio @ wasmtime, Go JSON, CPU: parked vs plain ± 15%
//	-->
//
// COLUMN @ ROW is one cell. A row is named by its leading cells, joined with ", ", and must be the only one of that name
// among all tables of docs/benchmarks.md; a column is named by its heading. "CELL / CELL" is a quotient. The tolerance is
// relative to what the tables say. Durations carry their unit (ns, µs, ms, s), shares may be written in %.
//
// Trials are measured once, and no table repeats them: why something was rejected. They are for docs/rationale.md only,
// in a section that says where they were measured, with the comment <!-- trial -->.

package gojinn

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Every page that users and contributors read, by its path from here.
func pages(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../guests/*.md", "../benches/*.md", "../fuzz/*.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			pages[strings.TrimPrefix(path, "../")] = string(text)
		}
	}
	if len(pages) < 10 {
		t.Fatalf("only %d pages", len(pages))
	}
	return pages
}

// The rows of all Markdown tables: each with the headings above it.
type tableRow struct{ headings, cells []string }

func tableRows(text string) []tableRow {
	var rows []tableRow
	var headings []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case !strings.HasPrefix(line, "|"):
			headings = nil
		case headings == nil:
			headings = cells(line)
		case strings.Trim(line, "|-: ") != "":
			rows = append(rows, tableRow{headings, cells(line)})
		}
	}
	return rows
}

func cells(line string) []string {
	parts := strings.Split(strings.Trim(line, "|"), "|")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// The value of COLUMN @ ROW.
func lookUp(rows []tableRow, cell string) (float64, error) {
	column, name, ok := strings.Cut(cell, " @ ")
	if !ok {
		return 0, fmt.Errorf("%q is not COLUMN @ ROW", cell)
	}
	var found []float64
	for _, row := range rows {
		joined := strings.Join(row.cells, ", ") + ", "
		if !strings.HasPrefix(joined, name+", ") {
			continue
		}
		for i, heading := range row.headings {
			if heading == column && i < len(row.cells) {
				value, err := number(row.cells[i])
				if err != nil {
					return 0, fmt.Errorf("row %q, column %q: %w", name, column, err)
				}
				found = append(found, value)
			}
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%d rows are called %q and have a column %q", len(found), name, column)
	}
	return found[0], nil
}

var units = map[string]float64{"": 1, "x": 1, "times": 1, "/s": 1, "%": 0.01, "ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1, "KiB": 1024, "MiB": 1 << 20}

var numberPattern = regexp.MustCompile(`^(\d+(?:\.\d+)?) ?(x|times|/s|%|ns|µs|ms|s|KiB|MiB)?$`)

// The value of a number with its unit, in seconds, bytes or plain.
func number(text string) (float64, error) {
	match := numberPattern.FindStringSubmatch(text)
	if match == nil {
		return 0, fmt.Errorf("%q is not a number with a unit", text)
	}
	value, err := strconv.ParseFloat(match[1], 64)
	return value * units[match[2]], err
}

var (
	figurePattern     = regexp.MustCompile(`(\d+(?:\.\d+)?(?: ?(?:x|times|%|ns|µs|ms|s|KiB|MiB))?)?<!-- figure ([a-z0-9-]+) -->`)
	definitionsBlock  = regexp.MustCompile(`(?s)<!-- figures\n(.*?)-->`)
	definitionPattern = regexp.MustCompile(`^([a-z0-9-]+): (.*) ± (\d+)%$`)
)

// What is wrong with the figures of one page, and how many were compared.
func wrongFigures(rows []tableRow, page string) (wrong []string, compared int) {
	type definition struct {
		value, tolerance float64
		text             string
	}
	defined := map[string]definition{}
	used := map[string]bool{}
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, block := range definitionsBlock.FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSpace(line)
			match := definitionPattern.FindStringSubmatch(line)
			if match == nil {
				fail("%q is not NAME: COLUMN @ ROW ± N%%", line)
				continue
			}
			above, below, quotient := strings.Cut(match[2], " / ")
			value, err := lookUp(rows, above)
			if err == nil && quotient {
				var divisor float64
				divisor, err = lookUp(rows, below)
				value /= divisor
			}
			if err != nil {
				fail("%s: %v", match[1], err)
			}
			percent, _ := strconv.Atoi(match[3])
			defined[match[1]] = definition{value, value * float64(percent) / 100, match[2]}
		}
	}
	for _, match := range figurePattern.FindAllStringSubmatch(page, -1) {
		used[match[2]] = true
		stated, err := number(match[1])
		d, ok := defined[match[2]]
		switch {
		case !ok:
			fail("no <!-- figures --> says where %s comes from", match[2])
		case err != nil:
			fail("there is no number right before %s", match[0])
		case math.Abs(stated-d.value) > d.tolerance:
			fail("%s: the tables say %.3g (%s)", match[1], d.value, d.text)
		}
		compared++
	}
	for name := range defined {
		if !used[name] {
			fail("%s is used nowhere", name)
		}
	}
	if all := strings.Count(page, "<!-- figure "); all != compared {
		fail("%d comments begin with <!-- figure, %d could be read", all, compared)
	}
	return wrong, compared
}

// Figures in prose say what the benchmark tables say.
func TestDocsFiguresAreThoseOfTheTables(t *testing.T) {
	rows := tableRows(readDoc(t, "benchmarks.md"))
	total := 0
	for name, page := range pages(t) {
		wrong, compared := wrongFigures(rows, fenced.ReplaceAllString(page, ""))
		for _, w := range wrong {
			t.Errorf("%s: %s", name, w)
		}
		total += compared
	}
	if total == 0 {
		t.Error("no page has a figure")
	}
}

// Pages that a program writes: they are tables of what was measured.
var generated = []string{"docs/benchmarks.md", "docs/robustness.md"}

// What reads like a measurement: a duration below a second, a factor, a share.
var measurement = regexp.MustCompile(`(?i)\d(?:[\d.,]*\d)?\s?(?:ns|µs|%)|\d+\.\d+ ms|\d(?:[\d.]*\d)? times (?:as|less|more|faster|slower|the)|\ba (?:third|quarter|fifth|sixth|seventh|eighth|ninth|tenth)\b`)

// A measurement that is not held to the tables goes out of date.
func TestDocsHaveNoOtherFigures(t *testing.T) {
	for name, page := range pages(t) {
		if slices.Contains(generated, name) || !strings.HasPrefix(name, "docs/") && name != "README.md" {
			continue
		}
		page = definitionsBlock.ReplaceAllString(page, "")
		for _, section := range strings.Split(figurePattern.ReplaceAllString(prose(page), ""), "\n#") {
			if name == "docs/rationale.md" && strings.Contains(section, "<!-- trial -->") {
				continue
			}
			for line := range strings.Lines(section) {
				if found := measurement.FindString(line); found != "" {
					t.Errorf("%s: %q is held to no table: %s", name, found, strings.TrimSpace(line))
				}
			}
		}
	}
}

func TestFiguresAreReadAndCompared(t *testing.T) {
	rows := tableRows("| what | ratio |\n|---|--:|\n| a, b | 2.50x |\n\n| group | guest | p50 |\n|---|---|--:|\n| load | g | 5.0 ms |\n| load | g, h | 10.0 µs |\n")
	for _, test := range []struct{ text, definition, want string }{
		{"2.4 times<!-- figure a --> less", "a: ratio @ a, b ± 10%", ""},
		{"2<!-- figure a -->", "a: ratio @ a, b ± 10%", "the tables say 2.5"},
		{"240 %<!-- figure a -->", "a: ratio @ a, b ± 10%", ""},
		{"5 ms<!-- figure a -->", "a: p50 @ load, g, 5.0 ms ± 1%", ""},
		{"5 s<!-- figure a -->", "a: p50 @ load, g, 5.0 ms ± 1%", "the tables say 0.005"},
		{"500<!-- figure a -->", "a: p50 @ load, g, 5.0 ms / p50 @ load, g, h ± 1%", ""},
		{"it <!-- figure a -->", "a: ratio @ a, b ± 10%", "no number"},
		{"2<!-- figure a -->", "a: ratio @ c ± 10%", "0 rows"},
		{"2<!-- figure a -->", "a: p50 @ load ± 10%", "2 rows"},
		{"2<!-- figure a -->", "a: CPU @ a, b ± 10%", "0 rows"},
		{"2<!-- figure a -->", "a: ratio of a ± 10%", "is not COLUMN @ ROW"},
		{"2<!-- figure a -->", "a: what @ a, b ± 10%", "is not a number"},
		{"2<!-- figure a -->", "a: ratio @ a, b", "is not NAME:"},
		{"2<!-- figure b -->", "a: ratio @ a, b ± 10%", "no <!-- figures --> says where b comes from"},
		{"2", "a: ratio @ a, b ± 10%", "a is used nowhere"},
		{"2<!-- figure A -->", "a: ratio @ a, b ± 10%", "0 could be read"},
	} {
		wrong, _ := wrongFigures(rows, test.text+"\n\n<!-- figures\n"+test.definition+"\n-->\n")
		if got := strings.Join(wrong, "; "); (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
			t.Errorf("%v: got %q", test, got)
		}
	}
	for text, want := range map[string]bool{
		"takes 1.5 µs": true, "by 8 %": true, "1.9 times the requests": true, "a third of the time": true, "7.8 ms to read": true,
		"for 200 ms": false, "four times a second": false, "the third": false, "128MB": false, "p99": false,
	} {
		if measurement.MatchString(text) != want {
			t.Errorf("%q: a measurement is %v", text, !want)
		}
	}
}
