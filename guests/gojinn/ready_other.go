//go:build !wasip1

package gojinn

// ready: without Gojinn there are no snapshots.
func ready() bool { return false }
