package probe

import (
	"crypto/rand"
	"encoding/hex"
	"hash/maphash"
	mathrand "math/rand"
	"strconv"
)

// draws takes one value from each generator of the runtime. No two requests may agree in any of them.
func draws() map[string]string {
	var hash maphash.Hash
	key := make([]byte, 16)
	_, err := rand.Read(key)
	check(err)
	drawn := map[string]string{
		"math/rand":   strconv.FormatUint(mathrand.Uint64(), 16),
		"maphash":     strconv.FormatUint(hash.Sum64(), 16),
		"crypto/rand": hex.EncodeToString(key),
		"map order":   mapOrder(),
	}
	drawV2(drawn)
	return drawn
}

// mapOrder is the order in which a map of its own tells its keys, thrice: long enough not to come twice by chance.
func mapOrder() string {
	keys := map[string]bool{}
	for i := 0; i < 64; i++ {
		keys[strconv.Itoa(i)] = true
	}
	order := make([]byte, 0, 600)
	for i := 0; i < 3; i++ {
		for key := range keys {
			order = append(append(order, key...), ' ')
		}
	}
	return string(order)
}

// source is seeded by the program: it must give the same in every request, and the same as without a snapshot.
var source *mathrand.Rand

// seedHeap makes the generators with seeds of their own that live on the heap.
func seedHeap() {
	source = mathrand.New(mathrand.NewSource(7))
	seedHeapV2()
}

// ownDraws takes values from the program's own generators.
func ownDraws() []uint64 {
	own := []uint64{}
	if source != nil {
		own = append(own, source.Uint64(), source.Uint64())
	}
	return ownDrawsV2(own)
}
