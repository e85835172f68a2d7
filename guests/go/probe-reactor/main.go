// Probe-reactor is probe in reactor form, for what its arguments say about starting and its requests about answering.
package main

import "github.com/pauloappbr/gojinn/guests/go/internal/probe"

//go:wasmexport gojinn_handle
func handle() { probe.Handle() }

// main is never called: the go command asks for it, a reactor has none.
func main() {}
