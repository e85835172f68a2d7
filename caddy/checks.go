// This file has the rules for single settings. The Caddyfile's parser applies them while it knows the line; Validate applies
// them again, for configs that were written as JSON.

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
)

// defaultBackend is the fastest backend, see docs/backends.md.
const defaultBackend = "wasmtime"

var backends = []string{"wasmtime", "wasmer", "wasmi"}

func checkBackend(name string) error {
	if slices.Contains(backends, name) {
		return nil
	}
	return fmt.Errorf("backend %q is not one of %s%s", name, strings.Join(backends, ", "), didYouMean(name, backends))
}

func (a *App) checkCompileTimeout() error {
	if a.CompileTimeout == 0 {
		return nil
	}
	return checkDuration("compile_timeout", a.CompileTimeout)
}

func (a *App) checkCompileMemory() error {
	if a.CompileMemory == 0 {
		return nil
	}
	return checkCompileMemory(a.CompileMemory)
}

const (
	// minCompileMemory is what the engine demands at least, for small modules take a third of it.
	minCompileMemory = 256 << 20
	maxCompileMemory = 1 << 40
)

func checkCompileMemory(n int64) error {
	if n >= minCompileMemory && n <= maxCompileMemory {
		return nil
	}
	return fmt.Errorf("compile_memory is %d bytes, want at least 256 MiB (%d) and at most 1 TiB", n, int64(minCompileMemory))
}

// maxPoolSlots is far more than fits into the address space of any machine.
const maxPoolSlots = 1 << 20

func checkPoolSlots(n int) error {
	if n >= -1 && n <= maxPoolSlots {
		return nil
	}
	return fmt.Errorf("pool_slots is %d, want `off` or a number from 1 to %d", n, maxPoolSlots)
}

// The bounds of max_memory: the engine's least, and more than any machine has.
const (
	minMaxMemory = 16 << 20
	maxMaxMemory = 1 << 50
)

func (a *App) checkMaxMemory() error {
	if a.MaxMemory == 0 {
		return nil
	}
	return checkMaxMemory(a.MaxMemory)
}

func checkMaxMemory(n int64) error {
	if n < minMaxMemory || n > maxMaxMemory {
		return fmt.Errorf("max_memory is %d bytes, want at least 16 MiB (%d)", n, minMaxMemory)
	}
	return nil
}

func (a *App) checkPoolKeepResident() error {
	if a.PoolKeepResident == 0 {
		return nil
	}
	return checkSize("pool_keep_resident", a.PoolKeepResident)
}

const resetMadvise = "madvise"

var poolResets = []string{"auto", "scan", "copy", resetMadvise}

func checkPoolReset(mode string) error {
	if mode == "" || slices.Contains(poolResets, mode) {
		return nil
	}
	return fmt.Errorf("pool_reset %q is not one of %s%s", mode, strings.Join(poolResets, ", "), didYouMean(mode, poolResets))
}

// The values of isolation.
const (
	isolationDefault = "default"
	isolationStrict  = "strict"
)

var isolations = []string{isolationDefault, isolationStrict}

func checkIsolation(name string) error {
	if slices.Contains(isolations, name) {
		return nil
	}
	return fmt.Errorf("isolation %q is not one of %s%s", name, strings.Join(isolations, ", "), didYouMean(name, isolations))
}

func (a *App) checkIsolation() error {
	if a.Isolation == "" {
		return nil
	}
	if err := checkIsolation(a.Isolation); err != nil {
		return err
	}
	if a.Isolation == isolationStrict && a.PoolReset != "" && a.PoolReset != resetMadvise {
		return fmt.Errorf("isolation strict needs pool_reset madvise, and pool_reset is %s; leave pool_reset out", a.PoolReset)
	}
	return nil
}

// strictClocks is what clocks count in with isolation strict.
const strictClocks = time.Millisecond

// maxMaxConcurrency keeps the threads that run guests well below the 10000 at which Go ends the process.
const maxMaxConcurrency = 8192

func checkConcurrency(option string, n int) error {
	if n >= 1 && n <= maxMaxConcurrency {
		return nil
	}
	return fmt.Errorf("%s is %d, want a number from 1 to %d", option, n, maxMaxConcurrency)
}

const contractJSON = "json"

func checkContract(name string) error {
	switch name {
	case contractJSON, contractHTTPWasm, contractCGI:
		return nil
	default:
		return fmt.Errorf("contract %q is unknown; use `contract json`, `contract cgi` or `contract http-wasm`", name)
	}
}

// maxDuration keeps the sum of a time and a timeout within the range of every clock.
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
		return errors.New("env has an empty name; write `env NAME value`")
	case strings.Contains(name, "="):
		return fmt.Errorf("the name %q of env contains =; write `env NAME value`, with a space", name)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("the name %q of env contains a NUL byte, which no variable's name can have", name)
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
			return fmt.Errorf("two mounts have the guest path %s; mount each at another path", guest)
		}
		seen[guest] = true
	}
	return nil
}

func checkMount(m Mount) error {
	switch {
	case m.Host == "":
		return errors.New("mount has an empty host path; write for example `mount ./data /data`")
	case !path.IsAbs(m.Guest):
		return fmt.Errorf("the guest path %q of mount is not absolute; write for example `mount %s /data`", m.Guest, m.Host)
	default:
		return errors.Join(checkNUL("mount", m.Host), checkNUL("mount", m.Guest))
	}
}

func checkName(name string) error {
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("name %q cannot be a label of metrics: want 1 to 64 bytes of printable characters", name)
	}
	return nil
}

// The values of snapshot.
const (
	snapshotAuto = "auto"
	snapshotOff  = "off"
	snapshotOn   = "on"
)

var snapshotModes = []string{snapshotAuto, snapshotOff, snapshotOn}

func checkSnapshot(mode string) error {
	if slices.Contains(snapshotModes, mode) {
		return nil
	}
	return fmt.Errorf("snapshot %q is not one of %s%s", mode, strings.Join(snapshotModes, ", "), didYouMean(mode, snapshotModes))
}

// maxRounds is far more than any function gains from.
const maxRounds = 100

func checkRounds(n int) error {
	if n >= 1 && n <= maxRounds {
		return nil
	}
	return fmt.Errorf("warmup is %d, want a number of rounds from 1 to %d", n, maxRounds)
}

// checkSnapshot checks snapshot and warmup, after the app's setting was filled in.
func (h *Handler) checkSnapshot() error {
	if err := checkSnapshot(h.Snapshot); err != nil {
		return err
	}
	if h.Warmup == nil {
		return nil
	}
	if err := checkRounds(h.Warmup.Rounds); err != nil {
		return err
	}
	return checkWarmup(h.Snapshot)
}

// checkWarmup refuses a warm-up if snapshots are off.
func checkWarmup(snapshot string) error {
	if snapshot == snapshotOff {
		return errors.New("warmup makes a snapshot, and snapshot is off, here or in the global option gojinn; " +
			"leave warmup out, or write `snapshot auto`")
	}
	return nil
}

// checkPerRequest refuses a per-request value if snapshot is on.
func (h *Handler) checkPerRequest(setting string, v *value) error {
	if h.Snapshot != snapshotOn {
		return nil
	}
	for _, p := range v.parts {
		if p.key != "" {
			return fmt.Errorf("snapshot is on, but %s has %s, which each request fills in, and the snapshot is made before the first request; "+
				"write `snapshot auto`, which serves such a function without a snapshot, or let the function find the value in its request; "+
				"if it is text, write it as \\{%s\\}",
				setting, p.literal, p.key)
		}
	}
	return nil
}

// checkNUL refuses the one byte that no argument and no variable of a program can contain.
func checkNUL(name, text string) error {
	if at := strings.IndexByte(text, 0); at >= 0 {
		return fmt.Errorf("the value of %s has a NUL at byte %d, and no program can receive one; remove it", name, at)
	}
	return nil
}

// didYouMean returns a suggestion of the known word that differs least from word, or "" if none is near.
func didYouMean(word string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := editDistance(word, k); d < min(distance, len(k), len(word)) {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// editDistance returns how many letters must be added, removed or changed to turn a into b.
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
