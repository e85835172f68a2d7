// This file leads from places in a bundled script to places in its sources.

package gojinn

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/go-sourcemap/sourcemap"
)

// positions has the source map of a script. The zero of a pointer has none.
type positions struct {
	// consumer reads the map when the first place is asked for, since most scripts never throw.
	consumer func() (*sourcemap.Consumer, error)
}

func newPositions(sources []byte) *positions {
	return &positions{consumer: sync.OnceValues(func() (*sourcemap.Consumer, error) { return sourcemap.Parse("", sources) })}
}

// inBundle matches a place in a stack of QuickJS: `gojinn:script:12:7`, both numbers from 1.
var inBundle = regexp.MustCompile(`gojinn:script:(\d+)(?::(\d+))?`)

// translate replaces the places in a text by those in the sources.
func (p *positions) translate(text string) string {
	if p == nil || !strings.Contains(text, "gojinn:script") {
		return text
	}
	consumer, err := p.consumer()
	if err != nil {
		return text
	}
	return inBundle.ReplaceAllStringFunc(text, func(place string) string {
		match := inBundle.FindStringSubmatch(place)
		line, _ := strconv.Atoi(match[1])
		column, _ := strconv.Atoi(match[2])
		source, _, sourceLine, sourceColumn, ok := consumer.Source(line, max(column-1, 0))
		if !ok {
			return "the bundle:" + strings.TrimPrefix(place, "gojinn:script:")
		}
		return fmt.Sprintf("%s:%d:%d", source, sourceLine, sourceColumn+1)
	})
}

// split divides a text of several lines, such as an error with its stack, into the first line and the others without their
// indentation.
func (p *positions) split(text string) (first string, rest []string) {
	lines := strings.Split(p.translate(text), "\n")
	for _, line := range lines[1:] {
		if line = strings.TrimSpace(line); line != "" {
			rest = append(rest, line)
		}
	}
	return lines[0], rest
}
