package gojinn

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"
)

// The rules for single settings. The Caddyfile applies them where the line is known, Validate applies them again for
// configs that were written as JSON.

const contractJSON = "json"

func checkContract(name string) error {
	switch name {
	case contractJSON:
		return nil
	case "cgi":
		return errors.New("contract cgi is designed, but not built yet; use `contract json`")
	default:
		return fmt.Errorf("contract %q is unknown, want json", name)
	}
}

// maxDuration keeps deadlines within what clocks can add up.
const maxDuration = 24 * time.Hour

func checkDuration(setting string, d caddy.Duration) error {
	if d <= 0 || time.Duration(d) > maxDuration {
		return fmt.Errorf("%s is %s, want more than 0 and at most %s", setting, time.Duration(d), maxDuration)
	}
	return nil
}

const (
	page        = 64 << 10
	maxSize     = 4 << 30
	minimumSize = 1
)

func checkSize(setting string, n int64) error {
	least := int64(minimumSize)
	if setting == "memory_limit" {
		least = page
	}
	if n < least || n > maxSize {
		return fmt.Errorf("%s is %d bytes, want at least %d and at most 4 GiB (%d)", setting, n, least, int64(maxSize))
	}
	return nil
}

// parseSize reads a size as Caddy does: 128MB are 128 million bytes, 128MiB are 134 217 728.
func parseSize(setting, text string) (int64, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil {
		return 0, fmt.Errorf("%s %q is not a size; write for example 128MB or 64MiB", setting, text)
	}
	// Beyond the bound for all sizes; the check names it.
	size := int64(min(n, maxSize+1))
	return size, checkSize(setting, size)
}

func (h *Handler) checkMaxConcurrency() error {
	if h.MaxConcurrency == 0 {
		return nil
	}
	return checkConcurrency("max_concurrency", h.MaxConcurrency)
}

func (h *Handler) checkName() error {
	if h.Name == "" {
		return nil
	}
	return checkName(h.Name)
}

func checkEnv(env map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if err := checkEnvPair(name, env[name]); err != nil {
			return err
		}
	}
	return nil
}

func checkEnvPair(name, value string) error {
	switch {
	case name == "":
		return errors.New("env has an empty name")
	case strings.Contains(name, "="):
		return fmt.Errorf("env name %q has an =; write `env NAME value`, with a space", name)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("env name %q has a NUL", name)
	default:
		return checkNUL("env "+name, value)
	}
}

func checkArgs(args []string) error {
	for i, arg := range args {
		if err := checkNUL(fmt.Sprintf("args, number %d", i+1), arg); err != nil {
			return err
		}
	}
	return nil
}

func checkMounts(mounts []Mount) error {
	seen := map[string]bool{}
	for _, m := range mounts {
		if err := checkMount(m); err != nil {
			return err
		}
		guest := path.Clean(m.Guest)
		if seen[guest] {
			return fmt.Errorf("two mounts have the guest path %s", guest)
		}
		seen[guest] = true
	}
	return nil
}

func checkMount(m Mount) error {
	switch {
	case m.Host == "":
		return errors.New("mount has an empty host path")
	case !path.IsAbs(m.Guest):
		return fmt.Errorf("mount's guest path %q is not absolute; write for example `mount %s /data`", m.Guest, m.Host)
	default:
		return errors.Join(checkNUL("mount", m.Host), checkNUL("mount", m.Guest))
	}
}

// didYouMean suggests the known word that a typo is nearest to, or nothing.
func didYouMean(word string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := editDistance(word, k); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// editDistance is how many letters must be added, dropped or changed to turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func checkName(name string) error {
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("name %q is not fit for a label: want 1 to 64 bytes, all of them printable", name)
	}
	return nil
}
