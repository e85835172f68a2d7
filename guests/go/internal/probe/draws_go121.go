//go:build !go1.22

package probe

// Before Go 1.22 there was no math/rand/v2, and no generator in the runtime but the one behind math/rand and maphash.

func drawV2(map[string]string) {}

func seedHeapV2() {}

func seedStatic() {}

func ownDrawsV2(own []uint64) []uint64 { return own }
