// This file makes a script, a JavaScript or TypeScript file, into one module with all that it imports.

package gojinn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/evanw/esbuild/pkg/api"
)

// scriptExtensions are those of files that are scripts. Every other file is a WebAssembly module.
var scriptExtensions = []string{".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx"}

// isScript reports whether the file at the path is a script.
func isScript(path string) bool {
	return slices.Contains(scriptExtensions, strings.ToLower(filepath.Ext(path)))
}

// maxScript is the largest script with all that it imports, in bytes.
const maxScript = 16 << 20

// script is a bundled script.
type script struct {
	// data is what the runtime module gets: a JSON object with settings, a newline, and the code.
	data []byte
	// positions leads from places in the code to places in the sources.
	positions *positions
	// inputs are the absolute paths of all files it was made from.
	inputs []string
	// warnings are what esbuild finds odd.
	warnings []string
}

// scriptSettings are what the runtime module has to know besides the code.
type scriptSettings struct {
	// Stores and Secrets are the names that the script finds in its env.
	Stores  []string `json:"stores,omitempty"`
	Secrets []string `json:"secrets,omitempty"`
	// TimeoutMillis is how long a request may take. A script that gets near it says where it is.
	TimeoutMillis int64 `json:"timeout_ms,omitempty"`
}

func (h *Handler) scriptSettings() *scriptSettings {
	settings := &scriptSettings{
		Secrets:       slices.Sorted(maps.Keys(h.Secrets)),
		TimeoutMillis: min(time.Duration(h.Timeout).Milliseconds(), math.MaxUint32),
	}
	for _, use := range h.Stores {
		settings.Stores = append(settings.Stores, use.Store)
	}
	return settings
}

// scriptError is a script that cannot be bundled.
type scriptError struct {
	text string
	// files are the absolute paths of the files with mistakes.
	files []string
}

// Error implements error.
func (e *scriptError) Error() string { return e.text }

// bundle reads the script at an absolute path, and all that it imports.
func bundle(path string, settings *scriptSettings) (*script, error) {
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("there is no such file; write the script, or correct the path")
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("this is not a regular file but a %s; name the script itself", describeMode(info.Mode()))
	}
	dir := filepath.Dir(path)
	result := api.Build(api.BuildOptions{
		EntryPoints:   []string{"./" + filepath.Base(path)},
		AbsWorkingDir: dir,
		Outfile:       "gojinn-bundle.js",
		Bundle:        true,
		Metafile:      true,
		Sourcemap:     api.SourceMapExternal,
		// The positions are all that is read of the map.
		SourcesContent: api.SourcesContentExclude,
		Format:         api.FormatESModule,
		// As other runtimes for the web's interfaces do, so that packages offer the code that is meant for them.
		Platform:      api.PlatformBrowser,
		Conditions:    []string{"workerd", "worker", "browser", "module"},
		Target:        api.ES2023,
		Charset:       api.CharsetUTF8,
		LegalComments: api.LegalCommentsNone,
		JSX:           api.JSXAutomatic,
		Define:        map[string]string{"process.env.NODE_ENV": `"production"`},
		Loader: map[string]api.Loader{
			".html": api.LoaderText, ".md": api.LoaderText, ".sql": api.LoaderText, ".svg": api.LoaderText,
		},
		LogLevel: api.LogLevelSilent,
	})
	if len(result.Errors) > 0 {
		return nil, newScriptError(dir, result.Errors)
	}
	s := &script{inputs: inputsOf(dir, result.Metafile)}
	for _, warning := range result.Warnings {
		s.warnings = append(s.warnings, describeMessage(dir, &warning))
	}
	var code, sources []byte
	for _, file := range result.OutputFiles {
		switch {
		case strings.HasSuffix(file.Path, ".js"):
			code = file.Contents
		case strings.HasSuffix(file.Path, ".map"):
			sources = file.Contents
		}
	}
	if len(code) > maxScript {
		return nil, fmt.Errorf("the script has %d bytes with all that it imports, more than the %d that are allowed; "+
			"import less, or read large data from a mount", len(code), maxScript)
	}
	text, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	s.data = bytes.Join([][]byte{text, code}, []byte("\n"))
	s.positions = newPositions(sources)
	return s, nil
}

// bundleSettled is bundle, of files that did not change in the meantime.
func bundleSettled(path string, settings *scriptSettings) (*script, error) {
	for range 10 {
		start := time.Now()
		s, err := bundle(path, settings)
		if err != nil {
			return nil, err
		}
		changed := func(input string) bool {
			info := stat(input)
			return info == nil || info.ModTime().After(start)
		}
		// A time in the future says nothing about changes.
		if !slices.ContainsFunc(s.inputs, changed) || time.Until(start) > 0 {
			return s, nil
		}
		time.Sleep(settlePoll)
	}
	return nil, errors.New("the script's files change while they are read; try again once they are completely written")
}

// inputsOf returns the absolute paths of the files that esbuild has read, in order.
func inputsOf(dir, metafile string) []string {
	var meta struct {
		Inputs map[string]json.RawMessage `json:"inputs"`
	}
	if json.Unmarshal([]byte(metafile), &meta) != nil {
		return nil
	}
	var paths []string
	for name := range meta.Inputs {
		// Names such as `(disabled):fs` are no files.
		if path := absoluteIn(dir, name); stat(path) != nil {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

func absoluteIn(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// maxMessages is how many mistakes an error names.
const maxMessages = 5

func newScriptError(dir string, messages []api.Message) *scriptError {
	e := &scriptError{}
	var texts []string
	for i := range messages {
		if at := messages[i].Location; at != nil {
			e.files = append(e.files, absoluteIn(dir, at.File))
		}
		if i < maxMessages {
			texts = append(texts, describeMessage(dir, &messages[i]))
		}
	}
	if more := len(messages) - maxMessages; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more mistakes", more))
	}
	e.text = strings.Join(texts, "; ")
	return e
}

// describeMessage returns a mistake as one line: where it is, what it is, the line's text, and what to do.
func describeMessage(dir string, message *api.Message) string {
	var b strings.Builder
	if at := message.Location; at != nil {
		fmt.Fprintf(&b, "%s:%d:%d: ", at.File, at.Line, at.Column+1)
	}
	b.WriteString(message.Text)
	if at := message.Location; at != nil && strings.TrimSpace(at.LineText) != "" {
		fmt.Fprintf(&b, " in the line `%s`", excerpt(at))
	}
	if hint := importHint(dir, message.Text); hint != "" {
		b.WriteString("; " + hint)
		return b.String()
	}
	for _, note := range message.Notes {
		if note.Location != nil {
			fmt.Fprintf(&b, " (%s:%d:%d: %s)", note.Location.File, note.Location.Line, note.Location.Column+1, note.Text)
		}
	}
	return b.String()
}

// excerpt returns the text of the line around a place.
func excerpt(at *api.Location) string {
	const most = 120
	line := at.LineText
	if len(line) > most {
		from := max(0, min(at.Column-most/2, len(line)-most))
		line = strings.ToValidUTF8(line[from:from+most], "")
	}
	return strings.TrimSpace(line)
}

var unresolved = regexp.MustCompile(`^Could not resolve "([^"]+)"`)

// importHint says what to do about an import that was not found.
func importHint(dir, text string) string {
	match := unresolved.FindStringSubmatch(text)
	if match == nil {
		return ""
	}
	name := match[1]
	switch {
	case strings.HasPrefix(name, ".") || strings.HasPrefix(name, "/"):
		return "there is no such file; correct the path"
	case strings.HasPrefix(name, "node:") || nodeModules[strings.SplitN(name, "/", 2)[0]]:
		return "scripts have the interfaces of the web and no modules of Node.js, see docs/scripts.md"
	}
	parts := strings.SplitN(name, "/", 3)
	pkg := parts[0]
	if strings.HasPrefix(name, "@") && len(parts) > 1 {
		pkg += "/" + parts[1]
	}
	return fmt.Sprintf("run `npm install %s` in %s", pkg, dir)
}

// nodeModules are the modules of Node.js that packages use most.
var nodeModules = map[string]bool{
	"assert": true, "async_hooks": true, "buffer": true, "child_process": true, "cluster": true, "crypto": true, "dgram": true,
	"dns": true, "events": true, "fs": true, "http": true, "http2": true, "https": true, "module": true, "net": true, "os": true,
	"path": true, "perf_hooks": true, "process": true, "querystring": true, "readline": true, "stream": true,
	"string_decoder": true, "timers": true, "tls": true, "tty": true, "url": true, "util": true, "v8": true, "vm": true,
	"worker_threads": true, "zlib": true,
}

// watchedFor returns the paths whose states tell whether a script has to be bundled again: its files, and the directories in
// which a missing one may appear.
func watchedFor(path string, inputs []string) []string {
	dir := filepath.Dir(path)
	paths := append([]string{path, dir, filepath.Join(dir, "node_modules"), filepath.Join(dir, "package.json"),
		filepath.Join(dir, "tsconfig.json")}, inputs...)
	for _, input := range inputs {
		if !strings.Contains(input, string(filepath.Separator)+"node_modules"+string(filepath.Separator)) {
			paths = append(paths, filepath.Dir(input))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
