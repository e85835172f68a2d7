// Fresh gives out what must be different in each request, made in the ways in which real programs make it. Its first argument says
// which; GET /secret shows it, and every other request uses it without showing it.
//
//	lazy       a generator of tokens that is seeded from crypto/rand at its first use
//	once       a key that is drawn at its first use
//	pool       random bytes that are read through a buffer
//	ulid       ids that count on from the random part of the last one within a millisecond
//	hashed     an id made of hashed entropy, date and process id at its first use
//	compared   a token that is drawn at its first use and only ever compared: the answer says whether the request has it
//	session    an id of math/rand/v2, drawn when packages are initialised, in base64
//	source     a generator of math/rand that is seeded from math/rand/v2 when packages are initialised
//	maphash    a seed of hash/maphash, drawn when packages are initialised, by the hash of a constant
//	coarse     the time that a goroutine reads once a second, started by the first request
//	cached     the time, read again when the last reading is older than a minute
//	expiry     a key that is drawn again each hour
//	started    when the program was started
//	audit      nothing, but a line on stderr for each request that is written when main ends
//
// With the argument loop it answers all requests on stdin, else one. With shown, every request shows what /secret does.
package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	mathrand "math/rand"
	mathrandv2 "math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

// kind is what the program gives out. Nothing of another kind may be drawn.
var kind = func() string {
	if len(os.Args) < 2 {
		return ""
	}
	return os.Args[1]
}()

func asked(word string) bool { return slices.Contains(os.Args, word) }

func draw(n int) []byte {
	bytes := make([]byte, n)
	if _, err := rand.Read(bytes); err != nil {
		panic(err)
	}
	return bytes
}

var tokens = sync.OnceValue(func() *mathrandv2.ChaCha8 { return mathrandv2.NewChaCha8([32]byte(draw(32))) })

var key = sync.OnceValue(func() []byte { return draw(32) })

var pool = bufio.NewReader(rand.Reader)

var ulid struct {
	last   uint64
	random [10]byte
}

func nextULID() string {
	now := uint64(time.Now().UnixMilli())
	if ulid.last == 0 {
		copy(ulid.random[:], draw(10))
	} else {
		binary.BigEndian.PutUint64(ulid.random[2:], binary.BigEndian.Uint64(ulid.random[2:])+1)
	}
	ulid.last = now
	return hex.EncodeToString(ulid.random[:])
}

var hashed = sync.OnceValue(func() string {
	sum := sha256.Sum256(fmt.Appendf(draw(16), "%d %d", time.Now().UnixNano(), os.Getpid()))
	return hex.EncodeToString(sum[:])
})

var session = func() string {
	if kind != "session" {
		return ""
	}
	bytes := make([]byte, 48)
	for i := 0; i < len(bytes); i += 8 {
		binary.LittleEndian.PutUint64(bytes[i:], mathrandv2.Uint64())
	}
	return base64.StdEncoding.EncodeToString(bytes)
}()

var source = func() *mathrand.Rand {
	if kind != "source" {
		return nil
	}
	return mathrand.New(mathrand.NewSource(int64(mathrandv2.Uint64())))
}()

var seed = func() maphash.Seed {
	if kind != "maphash" {
		return maphash.Seed{}
	}
	return maphash.MakeSeed()
}()

var coarse struct {
	sync.Once
	atomic.Int64
}

func coarseTime() int64 {
	coarse.Do(func() {
		coarse.Store(time.Now().UnixMilli())
		go func() {
			for now := range time.Tick(time.Second) {
				coarse.Store(now.UnixMilli())
			}
		}()
	})
	return coarse.Load()
}

var cached time.Time

func cachedTime() int64 {
	if now := time.Now(); now.Sub(cached) > time.Minute {
		cached = now
	}
	return cached.UnixMilli()
}

var expiring struct {
	key  []byte
	till time.Time
}

func expiringKey() string {
	if now := time.Now(); now.After(expiring.till) {
		expiring.key, expiring.till = draw(16), now.Add(time.Hour)
	}
	return hex.EncodeToString(expiring.key)
}

var started = func() int64 {
	if kind != "started" {
		return 0
	}
	return time.Now().UnixNano()
}()

// secret makes what the program gives out.
func secret(uri string) string {
	switch kind {
	case "lazy":
		bytes := make([]byte, 16)
		tokens().Read(bytes)
		return hex.EncodeToString(bytes)
	case "once":
		return hex.EncodeToString(key())
	case "pool":
		bytes := make([]byte, 16)
		if _, err := io.ReadFull(pool, bytes); err != nil {
			panic(err)
		}
		return hex.EncodeToString(bytes)
	case "ulid":
		return nextULID()
	case "hashed":
		return hashed()
	case "compared":
		return fmt.Sprint(strings.Contains(uri, hex.EncodeToString(key())))
	case "session":
		return session
	case "source":
		return fmt.Sprint(source.Uint64())
	case "maphash":
		return fmt.Sprint(maphash.String(seed, "constant"))
	case "coarse":
		return fmt.Sprint(coarseTime())
	case "cached":
		return fmt.Sprint(cachedTime())
	case "expiry":
		return expiringKey()
	case "started":
		return fmt.Sprint(started)
	}
	return ""
}

func main() {
	audit := bufio.NewWriter(os.Stderr)
	defer audit.Flush()
	stdin := json.NewDecoder(os.Stdin)
	for {
		var req contract.Request
		err := stdin.Decode(&req)
		if errors.Is(err, io.EOF) && asked("loop") {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "fresh:", err)
			os.Exit(1)
		}
		made := secret(req.URI)
		if kind == "audit" {
			fmt.Fprintln(audit, "audit:", req.Method, req.URI)
		}
		if req.URI != "/secret" && !asked("shown") {
			made = "hello"
		}
		if err := contract.Text(200, made+"\n").Write(os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "fresh:", err)
			os.Exit(1)
		}
		if !asked("loop") {
			return
		}
	}
}
