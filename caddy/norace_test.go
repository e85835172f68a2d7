//go:build !race

// This file says that the race detector is off.

package gojinn

const raceEnabled = false
