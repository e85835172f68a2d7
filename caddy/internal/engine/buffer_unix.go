//go:build unix

// This file has buffers outside of Go's heap, for long bodies.

package engine

import "syscall"

// NewBuffer returns n bytes of zeros outside of Go's heap. They take memory as they are written to, and are the system's again as
// soon as FreeBuffer returns. A buffer of Go's would stay until the collector runs, which may be when there is twice as much.
func NewBuffer(n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	return syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
}

// FreeBuffer frees what NewBuffer returned. Nothing may refer to it any more.
func FreeBuffer(b []byte) {
	if cap(b) == 0 {
		return
	}
	if err := syscall.Munmap(b[:cap(b)]); err != nil {
		panic("engine: a buffer that NewBuffer did not make: " + err.Error())
	}
}
