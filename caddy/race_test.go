//go:build race

// This file says that the race detector is on.

package gojinn

const raceEnabled = true
