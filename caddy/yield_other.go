//go:build !linux

package gojinn

import (
	"runtime"
	"time"
)

// giveWay lets the goroutines run that are ready.
func giveWay(time.Time) { runtime.Gosched() }
