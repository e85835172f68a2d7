//go:build !unix

// This file has the buffers of long bodies where memory cannot be mapped: in Go's heap.

package engine

// NewBuffer returns n bytes of zeros.
func NewBuffer(n int) ([]byte, error) { return make([]byte, n), nil }

// FreeBuffer does nothing, because the collector frees the buffer.
func FreeBuffer([]byte) {}
