package gojinn

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
)

// A host that knows frames sends a request as one, in place of JSON, and takes the response as one: lengths and bytes, as
// docs/contract.md has them.

// takesFrames is how the module says so: the host finds it in the module's data, which has it if the program calls Serve. Each
// frame begins with its first four bytes.
var takesFrames = "\xf1GJ\x01takes frames"

const (
	// requestHead is the number of bytes of a request before the lengths of its headers.
	requestHead = 52
	// flagNext is the flag of a response that lets the request go on.
	flagNext = 1
	// removed is the length of a value that is not there.
	removed = math.MaxUint32
)

// frame takes the next request, whose first byte is in the buffer.
func (r *reader) frame() (*Request, error) {
	if err := r.fill(8); err != nil {
		return nil, err
	}
	if string(r.buffer[:4]) != takesFrames[:4] {
		return nil, errors.New("it is neither JSON nor a frame that this program can read")
	}
	length := number(r.buffer, 4)
	if length < requestHead {
		return nil, errFrame
	}
	if err := r.fill(length); err != nil {
		return nil, err
	}
	request, err := parseFrame(r.buffer[:length])
	if err != nil {
		return nil, err
	}
	if length == len(r.buffer) && length > firstRead {
		// The body is a part of the buffer, which is not used again.
		r.buffer = nil
		return request, nil
	}
	request.Body = slices.Clone(request.Body)
	r.keep(r.buffer[length:])
	return request, nil
}

var errFrame = errors.New("the lengths of the frame do not fit together")

// fill reads until the buffer has n bytes.
func (r *reader) fill(n int) error {
	if n > cap(r.buffer) {
		r.buffer = append(make([]byte, 0, max(firstRead, n)), r.buffer...)
	}
	for len(r.buffer) < n {
		more, err := r.in.Read(r.buffer[len(r.buffer):cap(r.buffer)])
		r.buffer = r.buffer[:len(r.buffer)+more]
		switch {
		case more > 0:
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return nil
}

// number is the number at a place of a frame.
func number(frame []byte, at int) int { return int(binary.LittleEndian.Uint32(frame[at:])) }

// parseFrame reads a request. Its body is a part of the frame.
func parseFrame(frame []byte) (*Request, error) {
	count, body := number(frame, 44), number(frame, 48)
	begin := requestHead + 8*count
	if begin > len(frame) {
		return nil, errFrame
	}
	length := begin + body
	for at := 8; at < 44; at += 4 {
		length += number(frame, at)
	}
	for at := requestHead; at < begin; at += 4 {
		length += number(frame, at)
	}
	if length != len(frame) {
		return nil, errFrame
	}

	// One string for all that is read: the rest are parts of it.
	text := string(frame[begin : len(frame)-body])
	take := func(at int) string {
		n := number(frame, at)
		part := text[:n]
		text = text[n:]
		return part
	}
	request := &Request{
		Method:      take(8),
		URI:         take(12),
		TraceID:     take(16),
		RemoteAddr:  take(20),
		ClientIP:    take(24),
		Scheme:      take(28),
		Host:        take(32),
		Proto:       take(36),
		OriginalURI: take(40),
		Header:      make(Header, count),
		Body:        frame[len(frame)-body:],
	}
	values := make([]string, count)
	last, from := "", 0
	for i := range values {
		at := requestHead + 8*i
		name := take(at)
		values[i] = take(at + 4)
		// The values of one name follow each other.
		if name != last {
			last, from = name, i
		}
		request.Header[name] = values[from : i+1 : i+1]
	}
	return request, nil
}

// writeFrame writes a response as a frame. A body that is long is not copied.
func (w *writer) writeFrame(response *Response) error {
	var flags uint32
	var method, uri string
	var vars map[string]string
	var responseHeader Header
	header := response.Header
	if next := response.Next; next != nil {
		flags, method, uri, vars = flagNext, next.Method, next.URI, next.Vars
		header, responseHeader = next.Header, header
	}
	// What is no status stays none.
	status := uint32(math.MaxUint32)
	if s := response.Status; s >= 0 && s < math.MaxUint16 {
		status = uint32(s)
	}
	frame := append(w.line[:0], takesFrames[:4]...)
	for _, number := range [...]uint32{
		flags, status, uint32(len(method)), uint32(len(uri)),
		header.pairs(), uint32(len(vars)), responseHeader.pairs(), uint32(len(response.Body)),
	} {
		frame = binary.LittleEndian.AppendUint32(frame, number)
	}
	var few [3][16]string
	names := [3][]string{sortedNames(few[0][:0], header), sortedNames(few[1][:0], vars), sortedNames(few[2][:0], responseHeader)}
	frame = appendLengths(frame, names[0], header)
	for _, name := range names[1] {
		frame = appendLength(frame, name, len(vars[name]))
	}
	frame = appendLengths(frame, names[2], responseHeader)
	frame = append(append(frame, method...), uri...)
	frame = appendPairs(frame, names[0], header)
	for _, name := range names[1] {
		frame = append(append(frame, name...), vars[name]...)
	}
	frame = appendPairs(frame, names[2], responseHeader)
	if len(response.Body) <= firstRead {
		w.line = append(frame, response.Body...)
		_, err := w.out.Write(w.line)
		return err
	}
	w.line = frame
	if _, err := w.out.Write(frame); err != nil {
		return err
	}
	_, err := w.out.Write(response.Body)
	return err
}

// pairs is how often a name is written: once for each value, and once without any.
func (h Header) pairs() uint32 {
	n := 0
	for _, values := range h {
		n += max(len(values), 1)
	}
	return uint32(n)
}

// sortedNames appends the keys of a map in their order, so that the same response is the same frame.
func sortedNames[V any, M ~map[string]V](to []string, of M) []string {
	for name := range of {
		to = append(to, name)
	}
	slices.Sort(to)
	return to
}

// appendLengths appends the lengths of the names and values of a header.
func appendLengths(to []byte, names []string, header Header) []byte {
	for _, name := range names {
		values := header[name]
		if len(values) == 0 {
			to = appendLength(to, name, removed)
		}
		for _, value := range values {
			to = appendLength(to, name, len(value))
		}
	}
	return to
}

func appendLength(to []byte, name string, value int) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(to, uint32(len(name))), uint32(value))
}

// appendPairs appends the names and values of a header.
func appendPairs(to []byte, names []string, header Header) []byte {
	for _, name := range names {
		values := header[name]
		if len(values) == 0 {
			to = append(to, name...)
		}
		for _, value := range values {
			to = append(append(to, name...), value...)
		}
	}
	return to
}
