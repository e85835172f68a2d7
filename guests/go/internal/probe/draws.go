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

// mapOrder is the order in which a new map tells its keys, of which there are enough that none comes twice by chance.
func mapOrder() string {
	keys := map[byte]bool{}
	for _, key := range []byte("0123456789abcdefghijklmnopqrstuv") {
		keys[key] = true
	}
	order := make([]byte, 0, len(keys))
	for key := range keys {
		order = append(order, key)
	}
	return string(order)
}

// source is seeded by the program: it must give the same in every request, and the same as without a snapshot.
var source *mathrand.Rand

// seedHeap makes the generators on the heap, with seeds that the program chooses.
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
