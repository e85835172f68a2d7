package probe

import (
	"crypto/rand"
	"encoding/hex"
	mathrand "math/rand"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// arguments are those of the program, by name; a word alone has an empty value.
var arguments = parse(os.Args)

// started is what was done before the first read.
var started = start()

// state is what is kept from before the first read.
type state struct {
	env, key    string
	id          uint64
	file        int
	clock       time.Time
	began       int64
	heap        [][]uint64
	list        *node
	inFlight    bool
	timers      timers
	first, last chan int
	cleaned     chan int
}

// node makes the collector follow pointers.
type node struct {
	next *node
	pad  [6]uint64
}

func start() *state {
	s := &state{began: monotonic()}
	if asked("env") {
		s.env = os.Getenv(arguments["env"])
	}
	if asked("file") {
		content, err := os.ReadFile(arguments["file"])
		s.file = len(content)
		if err != nil {
			s.file = -1
		}
	}
	if asked("clock") {
		s.clock = time.Now()
	}
	if asked("key") {
		key := make([]byte, 32)
		_, err := rand.Read(key)
		check(err)
		s.key = hex.EncodeToString(key)
	}
	if asked("id") {
		s.id = mathrand.Uint64()
	}
	if asked("draw") {
		mathrand.Uint64()
	}
	if asked("seeded") {
		seedHeap()
	}
	if asked("static") {
		seedStatic()
	}
	if asked("heap") {
		s.fill(number("heap"))
	}
	if asked("stack") {
		descend(5000, func() {})
	}
	if asked("timers") {
		s.timers.arm()
	}
	if asked("sleep") {
		duration, err := time.ParseDuration(arguments["sleep"])
		check(err)
		time.Sleep(duration)
	}
	if asked("goroutines") {
		s.chain(number("goroutines"))
	}
	if asked("finalizers") {
		s.finalizers()
	}
	if asked("lock") {
		runtime.LockOSThread()
	}
	if asked("stderr") {
		_, err := os.Stderr.WriteString(arguments["stderr"] + "\n")
		check(err)
	}
	if asked("stdout") {
		_, err := os.Stdout.WriteString(arguments["stdout"])
		check(err)
	}
	if asked("collect") {
		runtime.GC()
	}
	// The last to allocate, so that the collection is in flight at the read.
	if asked("gc") {
		s.inFlight = s.beginCollection()
	}
	if asked("panic") {
		panic("probe: asked to panic")
	}
	if asked("exit") {
		os.Exit(number("exit"))
	}
	return s
}

// facts are what there is to tell of the start.
func (s *state) facts() map[string]any {
	facts := map[string]any{}
	if asked("env") {
		facts["env"] = s.env
	}
	if asked("file") {
		facts["file"] = s.file
	}
	if asked("clock") {
		facts["clock"] = s.clock.UnixNano()
	}
	if asked("key") {
		facts["key"] = s.key
	}
	if asked("id") {
		facts["id"] = strconv.FormatUint(s.id, 16)
	}
	if asked("gc") {
		facts["gc"] = s.inFlight
	}
	if asked("goroutines") {
		s.first <- 1
		facts["goroutines"] = <-s.last
	}
	return facts
}

// fill keeps mb MiB, every word of them written: copied, as a loop over so many takes an interpreter seconds.
func (s *state) fill(mb int) {
	pattern := make([]uint64, 1<<20/8)
	for i := range pattern {
		pattern[i] = uint64(i)
	}
	for block := 0; block < mb; block++ {
		words := make([]uint64, len(pattern))
		copy(words, pattern)
		words[0] = uint64(block)
		s.heap = append(s.heap, words)
	}
}

// heapSum is a checksum of what fill keeps: of a few words in each page.
func (s *state) heapSum() uint64 {
	var sum uint64
	for _, words := range s.heap {
		for i := 0; i < len(words); i += 512 {
			sum = sum*31 + words[i] + words[i+511]
		}
	}
	return sum
}

// beginCollection allocates until more is live than the next collection waits for, while none has ended: then one has begun.
// Nothing preempts a goroutine here, so the collector goes no further before this one waits.
func (s *state) beginCollection() bool {
	debug.SetGCPercent(50)
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	for round := 0; round < 1000; round++ {
		for i := 0; i < 2000; i++ {
			s.list = &node{next: s.list}
		}
		runtime.ReadMemStats(&now)
		if now.NumGC == before.NumGC && now.HeapAlloc > now.NextGC {
			return true
		}
		before = now
	}
	return false
}

// chain starts n goroutines, each of which adds one to what it is given.
func (s *state) chain(n int) {
	s.first = make(chan int)
	in := s.first
	for i := 0; i < n; i++ {
		out := make(chan int)
		go func(in, out chan int) {
			for value := range in {
				out <- value + 1
			}
		}(in, out)
		in = out
	}
	s.last = in
	// So that they wait in their receives.
	runtime.Gosched()
}

// descend calls itself depth times, over frames that make the stack grow, and then does.
func descend(depth int, do func()) byte {
	var frame [256]byte
	if depth <= 0 {
		do()
		return frame[0]
	}
	frame[depth%len(frame)] = byte(depth)
	return descend(depth-1, do) + frame[(depth+1)%len(frame)]
}

func asked(name string) bool {
	_, found := arguments[name]
	return found
}

func number(name string) int {
	n, err := strconv.Atoi(arguments[name])
	check(err)
	return n
}

func parse(args []string) map[string]string {
	values := map[string]string{}
	for i, arg := range args {
		if i > 0 {
			name, value, _ := strings.Cut(arg, "=")
			values[name] = value
		}
	}
	return values
}
