//go:build go1.22

package probe

import (
	"math/rand/v2"
	"strconv"
)

var (
	// chacha is seeded by the program and lives on the heap, as NewChaCha8 makes it. Two, one drawn from already: their states
	// look like the runtime's own.
	chacha, used *rand.ChaCha8
	// static is a generator in static data, where the runtime's generator is too.
	static rand.ChaCha8
	// staticSeeded says whether it is in use.
	staticSeeded bool
	pcg          *rand.PCG
)

func drawV2(drawn map[string]string) {
	drawn["math/rand/v2"] = strconv.FormatUint(rand.Uint64(), 16)
}

func seedHeapV2() {
	chacha = rand.NewChaCha8([32]byte([]byte("a seed of thirty-two bytes, mine")))
	used = rand.NewChaCha8([32]byte([]byte("another of thirty-two bytes here")))
	used.Uint64()
	pcg = rand.NewPCG(1, 2)
}

func seedStatic() {
	static.Seed([32]byte([]byte("one more seed of 32 bytes: here!")))
	staticSeeded = true
}

func ownDrawsV2(own []uint64) []uint64 {
	if chacha != nil {
		own = append(own, chacha.Uint64(), chacha.Uint64(), used.Uint64(), pcg.Uint64())
	}
	if staticSeeded {
		own = append(own, static.Uint64(), static.Uint64())
	}
	return own
}
