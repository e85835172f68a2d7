// This file reads the sample request of a warm-up, and says in which file the engine's refusal was.

package gojinn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// maxSample is the largest file of a sample request, in bytes. Its text is kept with the function.
const maxSample = 10_000_000

// readSample returns the text in the file of a sample. The engine checks that it is a request. The state of the file is that of
// just before it was read. Every error is a *sampleError.
func readSample(path string) (string, fs.FileInfo, error) {
	fail := func(err error) (string, fs.FileInfo, error) {
		return "", nil, &sampleError{path: path, err: err}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(errors.New("there is no such file; write a request into it, or correct the path"))
	case err != nil:
		return fail(withoutPath(err))
	case !info.Mode().IsRegular():
		return fail(fmt.Errorf("this is not a regular file but a %s; name the file of the sample itself", describeMode(info.Mode())))
	case info.Size() > maxSample:
		return fail(fmt.Errorf("the file has %d bytes, more than the %d that are allowed for a sample; "+
			"use a smaller request", info.Size(), maxSample))
	}
	text, err := os.ReadFile(path)
	switch {
	case err != nil:
		return fail(withoutPath(err))
	case len(text) == 0:
		return fail(errors.New("the file is empty; write a request into it, see docs/contract.md"))
	case !utf8.Valid(text): // the engine's configuration, which it is sent in, is text
		return fail(errors.New("the file is not UTF-8; write a body that is not text into \"body_base64\""))
	}
	return string(text), info, nil
}

// sampleKey returns the text of a sample for a functionKey. It is the same for samples that differ in white space only.
func sampleKey(text string) string {
	var line bytes.Buffer
	if json.Compact(&line, []byte(text)) != nil {
		return text // the engine refuses it
	}
	return line.String()
}

// sampleError says what is wrong with a sample, and in which file.
type sampleError struct {
	path string
	// at is the position in the file, as `LINE:COLUMN`; empty if the error is about the whole file.
	at  string
	err error
}

// refusedSample is what the engine's error begins with if it refuses a sample. A position follows.
const refusedSample = "the sample of warmup, "

// inSample returns err, or a *sampleError if err says that the engine refused the sample in the file.
func inSample(path, function string, err error) error {
	if failed := (*engine.Error)(nil); !errors.As(err, &failed) || failed.Code != engine.CodeBadConfig {
		return err
	}
	text, ok := strings.CutPrefix(withoutName(function, err).Error(), refusedSample)
	if !ok {
		return err
	}
	at, text, _ := strings.Cut(text, ": ")
	return &sampleError{path: path, at: at, err: errors.New(text)}
}

// Error implements error.
func (e *sampleError) Error() string {
	where := e.path
	if e.at != "" {
		where += ":" + e.at
	}
	return fmt.Sprintf("%s%s: %v", refusedSample, where, e.err)
}

// Unwrap is the error without the path.
func (e *sampleError) Unwrap() error { return e.err }

// withoutPath removes the path from an error of the file system, for callers that add it.
func withoutPath(err error) error {
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// Interface guards
var (
	_ error = (*sampleError)(nil)
)
