// This file writes and reads the frames of requests and answers, docs/abi.md.

package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Head builds the head of a request (docs/abi.md) in a buffer that it reuses: [Head.Reset] writes the nine strings, and two lists
// follow.
type Head struct {
	buf []byte
	// list is the offset of the count of the open list.
	list int
}

// Reset begins a new head with the nine strings, in the order of [Request].
func (h *Head) Reset(r *Request) {
	h.buf = h.buf[:0]
	for _, s := range [...]string{
		r.Method, r.URI, r.TraceID, r.RemoteAddr, r.ClientIP, r.Scheme, r.Host, r.Proto, r.OriginalURI,
	} {
		h.string(s)
	}
	h.open()
}

// Header adds one header.
func (h *Head) Header(name, value string) {
	h.string(name)
	h.string(value)
	h.count()
}

// EndHeaders ends the list of headers and begins that of per-request values.
func (h *Head) EndHeaders() {
	h.open()
}

// PerRequest adds one per-request value.
func (h *Head) PerRequest(value string) {
	h.string(value)
	h.count()
}

// Bytes returns the head, which is valid until the next Reset.
func (h *Head) Bytes() []byte { return h.buf }

func (h *Head) open() {
	h.list = len(h.buf)
	h.buf = append(h.buf, 0, 0, 0, 0)
}

func (h *Head) count() {
	at := h.buf[h.list:]
	binary.LittleEndian.PutUint32(at, binary.LittleEndian.Uint32(at)+1)
}

func (h *Head) string(s string) {
	h.buf = appendString(h.buf, s)
}

// Request is the fixed part of a request's head.
type Request struct {
	Method, URI, TraceID, RemoteAddr, ClientIP, Scheme, Host, Proto, OriginalURI string
}

// DecodedHead is a request's head as the engine reads it.
type DecodedHead struct {
	Request
	Headers    [][2]string
	PerRequest []string
}

// DecodeHead reads a head, for fakes and tests. The engine does so in Rust.
func DecodeHead(frame []byte) (*DecodedHead, error) {
	c := cursor{rest: frame}
	head := &DecodedHead{}
	r := &head.Request
	for _, s := range [...]*string{
		&r.Method, &r.URI, &r.TraceID, &r.RemoteAddr, &r.ClientIP, &r.Scheme, &r.Host, &r.Proto, &r.OriginalURI,
	} {
		*s = string(c.bytes())
	}
	for n := c.uint32(); n > 0 && !c.failed; n-- {
		head.Headers = append(head.Headers, [2]string{string(c.bytes()), string(c.bytes())})
	}
	for n := c.uint32(); n > 0 && !c.failed; n-- {
		head.PerRequest = append(head.PerRequest, string(c.bytes()))
	}
	if c.failed || len(c.rest) > 0 {
		return nil, errors.New("the head of the request is malformed")
	}
	return head, nil
}

// Answer is the result of a call. Its slices are views into the buffer that the call returned.
type Answer struct {
	Outcome Outcome
	// Status is the status for the client.
	Status int
	// NamesStatus says that the function's response has a status. If not, Status is 200.
	NamesStatus bool
	// IsRest says that the head of the response came with an event: Body is the rest of its body, and there is nothing else.
	IsRest bool
	// Duration is the time from the beginning of the call to the guest's end.
	Duration time.Duration
	// MemoryPeak is in bytes of linear memory.
	MemoryPeak uint64
	// LogsDropped is in bytes of log lines beyond max_logs, LogLinesDropped in whole lines.
	LogsDropped, LogLinesDropped uint64
	// HeaderCount is the number of headers.
	HeaderCount int
	// Held is how many bytes of the engine's memory stay taken for the answer, until Engine.GiveMemory.
	Held int64
	// Reason says which rule was broken. It is empty if the outcome is ok.
	Reason []byte
	// Body is the body for the client.
	Body []byte

	headers, logs, next []byte
	// mapped is the frame, if it is long.
	mapped []byte
}

// longFrame is the length from which a frame is outside of Go's heap.
const longFrame = 256 << 10

// MemoryFull says that the call did not begin, because the engine's memory was full.
func (a *Answer) MemoryFull() bool { return a.Outcome == OutcomeRejected && a.Status == 503 }

// Free frees the frame if it is long. The answer's slices are gone then.
func (a *Answer) Free() {
	FreeBuffer(a.mapped)
	a.mapped = nil
}

// Headers returns a reader of the headers.
func (a *Answer) Headers() HeaderReader { return HeaderReader{cursor{rest: a.headers}} }

// Logs returns a reader of the log lines.
func (a *Answer) Logs() LogReader { return LogReader{cursor{rest: a.logs}} }

// HeaderBytes returns the length of all headers, which is enough for a buffer of all names and values.
func (a *Answer) HeaderBytes() int { return len(a.headers) }

// HeaderReader reads the headers of an answer.
type HeaderReader struct{ c cursor }

// Next returns the next header. ok is false at the end.
func (r *HeaderReader) Next() (name, value []byte, ok bool) {
	if len(r.c.rest) == 0 {
		return nil, nil, false
	}
	name, value = r.c.bytes(), r.c.bytes()
	return name, value, !r.c.failed
}

// LogLevel is the level of a log line.
type LogLevel uint8

// The levels of host_log, and LogStderr for a line of stderr, which has none.
const (
	LogDebug LogLevel = iota
	LogInfo
	LogWarn
	LogError
	LogStderr LogLevel = 255
)

// LogReader reads the log lines of an answer.
type LogReader struct{ c cursor }

// Next returns the next line. ok is false at the end.
func (r *LogReader) Next() (level LogLevel, line []byte, ok bool) {
	if len(r.c.rest) == 0 {
		return 0, nil, false
	}
	level = LogLevel(r.c.rest[0])
	r.c.rest = r.c.rest[1:]
	line = r.c.bytes()
	return level, line, !r.c.failed
}

// lengths are the lengths of the five parts of an answer's frame.
type lengths struct{ headers, reason, logs, body, next uint64 }

// total returns the length of the frame. ok is false if no frame can be that long.
func (l lengths) total() (n int, ok bool) {
	const limit = 1 << 40
	if l.headers > limit || l.reason > limit || l.logs > limit || l.body > limit || l.next > limit {
		return 0, false
	}
	return int(l.headers + l.reason + l.logs + l.body + l.next), true
}

// split sets the answer's views into frame, and checks all lengths in it, so that the readers need not.
func (a *Answer) split(frame []byte, l lengths) error {
	if n, ok := l.total(); !ok || n != len(frame) {
		return fmt.Errorf("the answer's frame has %d bytes, not what its parts add up to", len(frame))
	}
	a.headers, frame = frame[:l.headers], frame[l.headers:]
	a.Reason, frame = frame[:l.reason], frame[l.reason:]
	a.logs, frame = frame[:l.logs], frame[l.logs:]
	a.Body, a.next = frame[:l.body], frame[l.body:]

	headers := a.Headers()
	count := 0
	for _, _, ok := headers.Next(); ok; _, _, ok = headers.Next() {
		count++
	}
	if headers.c.failed || count != a.HeaderCount {
		return errors.New("the headers in the answer's frame are malformed")
	}
	logs := a.Logs()
	for _, _, ok := logs.Next(); ok; _, _, ok = logs.Next() {
	}
	if logs.c.failed {
		return errors.New("the log lines in the answer's frame are malformed")
	}
	return nil
}

// NewAnswer builds an answer and its frame, for fakes and tests.
func NewAnswer(out []byte, a *Answer, headers [][2]string, reason string, logs []LogLine, body []byte) []byte {
	return newAnswer(out, a, headers, reason, logs, body, nil)
}

// NewGoesOn builds the frame of what a function says instead of an answer, for fakes and tests.
func NewGoesOn(out []byte, a *Answer, next *Next, logs []LogLine) []byte {
	return newAnswer(out, a, nil, "", logs, nil, next)
}

// NewChanged builds the frame of the answer of a guest of http-wasm, for fakes and tests.
func NewChanged(out []byte, a *Answer, next *Next, reason string, logs []LogLine, body []byte) []byte {
	return newAnswer(out, a, nil, reason, logs, body, next)
}

func newAnswer(out []byte, a *Answer, headers [][2]string, reason string, logs []LogLine, body []byte, next *Next) []byte {
	frame := out[:0]
	for _, h := range headers {
		frame = appendString(appendString(frame, h[0]), h[1])
	}
	l := lengths{headers: uint64(len(frame)), reason: uint64(len(reason)), body: uint64(len(body))}
	frame = append(frame, reason...)
	before := len(frame)
	for _, line := range logs {
		frame = appendString(append(frame, byte(line.Level)), line.Text)
	}
	l.logs = uint64(len(frame) - before)
	frame = append(frame, body...)
	if next != nil {
		before = len(frame)
		frame = next.encode(frame)
		l.next = uint64(len(frame) - before)
	}
	a.HeaderCount = len(headers)
	if err := a.split(frame, l); err != nil {
		panic(err)
	}
	return frame
}

// LogLine is one line for [NewAnswer].
type LogLine struct {
	Level LogLevel
	Text  string
}

// cursor reads a frame. After a failure it returns only zeros.
type cursor struct {
	rest   []byte
	failed bool
}

func (c *cursor) uint32() uint32 {
	if len(c.rest) < 4 {
		c.failed, c.rest = true, nil
		return 0
	}
	n := binary.LittleEndian.Uint32(c.rest)
	c.rest = c.rest[4:]
	return n
}

func (c *cursor) bytes() []byte {
	n := c.uint32()
	if uint64(n) > uint64(len(c.rest)) {
		c.failed, c.rest = true, nil
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func appendString(buf []byte, s string) []byte {
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(s)))
	return append(buf, s...)
}
