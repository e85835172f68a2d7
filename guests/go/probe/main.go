// Probe is the awkward Go program of the snapshot tests: its arguments say what it does before it reads its request, and how it
// reads it; the request's query says what the answer tells. The package internal/probe lists both.
package main

import "github.com/pauloappbr/gojinn/guests/go/internal/probe"

func main() { probe.Main() }
