//go:build !linux

// This file is for systems whose poller is not asked.

package gojinn

import (
	"runtime"
	"time"
)

// giveWay lets the goroutines run that are ready.
func giveWay(time.Time) { runtime.Gosched() }
