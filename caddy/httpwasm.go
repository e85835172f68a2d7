// This file has what the contract http-wasm adds to a request: the next handler runs between two entries of one guest.

package gojinn

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// contractHTTPWasm is the contract of the guests of http-wasm.io.
const contractHTTPWasm = "http-wasm"

// passage is what a request needs on its way through the next handler and back.
type passage struct {
	w    http.ResponseWriter
	next caddyhttp.Handler
	// maxOutput bounds the response that the guest gets, in bytes.
	maxOutput int64
	// memory is that of all calls.
	memory *memory

	// passed says that the next handler has run, and err what it returned.
	passed bool
	err    error
	// held has the response of the next handler if the guest gets it, sent what that handler has sent itself if not.
	held *heldWriter
	sent *nextWriter
}

// checkGuestConfig checks the configuration of the guest.
func (h *Handler) checkGuestConfig() error {
	switch {
	case h.GuestConfig == "" && h.GuestConfigFile == "":
		return nil
	case h.Contract != contractHTTPWasm:
		return errors.New("guest_config is for functions with `contract http-wasm`; others get env and args")
	case h.GuestConfig != "" && h.GuestConfigFile != "":
		return errors.New("guest_config is given as a text and as a file; give one of them")
	}
	return nil
}

// maxGuestConfig is the largest configuration of a guest, in bytes.
const maxGuestConfig = 1 << 20

// guestConfig resolves the configuration of the guest.
func (h *Handler) guestConfig(repl *caddy.Replacer, config *engine.FunctionConfig, names *otherNames) error {
	data := []byte(nil)
	if h.GuestConfigFile != "" {
		path, err := absolute(repl, "guest_config", h.GuestConfigFile)
		if err != nil {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("guest_config: %w", err)
		}
		defer file.Close()
		if data, err = io.ReadAll(io.LimitReader(file, maxGuestConfig+1)); err != nil {
			return fmt.Errorf("guest_config: %w", err)
		}
	} else if h.GuestConfig != "" {
		v, _ := parseValue(h.GuestConfig, repl, names)
		text, ok := v.static()
		if !ok {
			return errors.New("guest_config has a placeholder that depends on the request; it is resolved once, when the config is loaded")
		}
		data = []byte(text)
	}
	if len(data) > maxGuestConfig {
		return fmt.Errorf("guest_config is larger than %d bytes", maxGuestConfig)
	}
	if len(data) > 0 {
		config.Data = data
	}
	return nil
}

// writeHead writes the head of a request as a guest of http-wasm sees it: all that the client sent but forwarded headers of an
// untrusted one, the trailers that have arrived, and the headers that earlier handlers have set on the response.
func (p *passage) writeHead(head *engine.Head, r *http.Request, noter *clientNoter) {
	head.Reset(&engine.Request{Method: r.Method, URI: originForm(r), RemoteAddr: r.RemoteAddr, Host: r.Host, Proto: r.Proto})
	add := func(prefix string, header http.Header) {
		for name, values := range header {
			for _, v := range values {
				head.Header(prefix+name, v)
			}
		}
	}
	withheld := withheldOf(requestVars(r), noter)
	for name, values := range r.Header {
		for _, v := range values {
			if !noter.isForwarded(name) || !withheld.has(name, v) {
				head.Header(name, v)
			}
		}
	}
	if r.ContentLength > 0 && len(r.Header["Content-Length"]) == 0 {
		head.Header("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	// The engine knows these names: no header can have one.
	add(":trailer:", r.Trailer)
	add(":response:", p.w.Header())
	head.EndHeaders()
}

// run gives the request to the next handler, as the guest has changed it, and returns what the guest is told of the response.
func (p *passage) run(r *http.Request, x *exchange, event *engine.Event) (reply []byte, code int32, err error) {
	next, err := event.Next()
	if err != nil {
		return nil, 0, err
	}
	on := &goesOn{Next: next}
	if next.URI != "" {
		if on.target, err = url.ParseRequestURI(next.URI); err != nil {
			return nil, 0, err
		}
	}
	replaced := slices.Clone(event.Request)
	before := r.Body
	on.applyToRequest(r, x)
	if kept, ok := r.Body.(*keptBody); ok && r.Body != before {
		defer kept.free()
	}
	if next.ReplacesBody {
		r.Body = io.NopCloser(bytes.NewReader(replaced))
		r.ContentLength, r.TransferEncoding = int64(len(replaced)), nil
		r.Header["Content-Length"] = []string{strconv.Itoa(len(replaced))}
	}
	changeExactly(r.Trailer, &next.Trailers, "")
	changeExactly(p.w.Header(), &next.ResponseHeaders, "")

	p.passed = true
	if next.BuffersResponse {
		p.held = &heldWriter{inner: p.w, before: p.w.Header().Clone(), max: p.maxOutput, room: holding{memory: p.memory}}
		p.held.body.WriteString(next.EarlyBody)
		p.held.early = next.EarlyBody != ""
		p.err = p.held.serve(p.next, r)
	} else {
		p.sent = newNextWriter(p.w, &engine.HeaderChanges{})
		if next.EarlyStatus != 0 {
			p.sent.WriteHeader(next.EarlyStatus)
			if _, err := io.WriteString(p.sent, next.EarlyBody); err != nil {
				return nil, 0, err
			}
		}
		p.err = p.next.ServeHTTP(p.sent, r)
	}
	if p.err != nil {
		code = 1
	}
	if p.held != nil && !p.held.room.takeLong(p.held.body.Len(), 0) {
		return nil, 0, caddyhttp.Error(http.StatusServiceUnavailable, errMemoryFull)
	}
	return p.reply(), code, nil
}

// free gives back what is held for the request.
func (p *passage) free() {
	if p.held != nil {
		p.held.body = bytes.Buffer{}
		p.held.room.give()
	}
}

// reply says what the next handler has answered, as the engine reads it.
func (p *passage) reply() []byte {
	var body []byte
	status := http.StatusOK
	var failed caddyhttp.HandlerError
	switch {
	case p.err != nil && errors.As(p.err, &failed) && failed.StatusCode >= 200:
		status = failed.StatusCode
	case p.err != nil:
		status = http.StatusInternalServerError
	case p.held != nil:
		body = p.held.body.Bytes()
		status = cmp.Or(p.held.status, status)
	default:
		status = cmp.Or(p.sent.status, status)
	}
	header := p.w.Header()
	announced := map[string]bool{}
	for _, list := range header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			announced[http.CanonicalHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	var headers, trailers [][2]string
	for name, values := range header {
		for _, v := range values {
			if trailer, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
				trailers = append(trailers, [2]string{trailer, v})
			} else if announced[name] {
				trailers = append(trailers, [2]string{name, v})
			} else {
				headers = append(headers, [2]string{name, v})
			}
		}
	}
	reply := binary.LittleEndian.AppendUint32(nil, uint32(status))
	for _, list := range [...][][2]string{headers, trailers} {
		reply = binary.LittleEndian.AppendUint32(reply, uint32(len(list)))
		for _, pair := range list {
			for _, s := range pair {
				reply = binary.LittleEndian.AppendUint32(reply, uint32(len(s)))
				reply = append(reply, s...)
			}
		}
	}
	return append(reply, body...)
}

// begun reports whether the client has got a part of the response, so that no other response can be sent.
func (p *passage) begun() bool {
	return p.sent != nil && p.sent.wrote || p.held != nil && p.held.hijacked
}

// forget removes what the next handler has set for a response that is not sent.
func (p *passage) forget() {
	if p.held == nil || p.held.hijacked {
		return
	}
	header := p.w.Header()
	clear(header)
	maps.Copy(header, p.held.before)
}

// respond sends the guest's answer, or the next handler's as the guest has changed it.
func (p *passage) respond(r *http.Request, x *exchange) error {
	answer := &x.result.Answer
	changes, err := answer.Next()
	if err != nil {
		return err
	}
	if p.sent != nil || p.held != nil && p.held.hijacked {
		// The response was sent by the next handler, or its error is Caddy's to answer.
		return p.err
	}
	if p.err != nil && !answer.NamesStatus && !changes.ReplacesBody {
		p.forget()
		return p.err
	}
	header := p.w.Header()
	changeExactly(header, &changes.ResponseHeaders, "")
	status, body := answer.Status, answer.Body
	room, free := &x.answered, answer.Free
	if !answer.NamesStatus && !p.passed {
		status = defaultStatus(r)
	}
	switch {
	case !p.passed, changes.ReplacesBody:
		setLength(header, r, status, len(body))
	case p.held != nil:
		body = p.held.body.Bytes()
		room, free = &p.held.room, func() { p.held.body = bytes.Buffer{} }
		room.enter(&p.memory.answers)
		if p.held.early {
			setLength(header, r, status, len(body))
		}
	}
	changeExactly(header, &changes.Trailers, http.TrailerPrefix)
	if len(changes.Trailers.Set) > 0 {
		// A body with a length has no trailers.
		delete(header, "Content-Length")
	}
	p.w.WriteHeader(status)
	if status == http.StatusNoContent || status == http.StatusNotModified || len(body) == 0 {
		return nil
	}
	return room.send(p.w, body, free)
}

// setLength sets the Content-Length of a body that replaces another one.
func setLength(header http.Header, r *http.Request, status, length int) {
	delete(header, "Content-Length")
	switch {
	case status == http.StatusNoContent, status == http.StatusNotModified, length == 0 && r.Method == http.MethodHead:
	default:
		header["Content-Length"] = []string{strconv.Itoa(length)}
	}
}

// changeExactly changes a header as a guest says that saw all of it.
func changeExactly(header http.Header, changes *engine.HeaderChanges, prefix string) {
	for _, name := range changes.Delete {
		delete(header, prefix+name)
	}
	for name, values := range grouped(changes.Set) {
		if header != nil {
			header[prefix+name] = values
		}
	}
}

// heldWriter keeps the response of a handler until the guest has seen it.
type heldWriter struct {
	inner http.ResponseWriter
	// before are the headers as they were before the handler.
	before http.Header
	status int
	body   bytes.Buffer
	// early says that the beginning of the body is the guest's, and not in the handler's Content-Length.
	early bool
	// max is how many bytes the body may have.
	max int64
	// refused says why the body is not kept.
	refused  error
	hijacked bool
	// room is the memory that the body holds.
	room holding
}

// errHeld is what a handler gets that writes more than the guest may be given.
var errHeld = errors.New("the response is larger than max_output of the function that is to get it")

// errHeldMemory is what a handler gets that writes more than there is memory for.
var errHeldMemory = errors.New("the memory of all calls (max_memory) has no room for the response that the guest is to get")

// serve keeps the response of next.
func (w *heldWriter) serve(next caddyhttp.Handler, r *http.Request) (err error) {
	defer func() {
		if w.refused == nil {
			return
		}
		// Some handlers abort the connection if they cannot write. There is an answer for the client: nothing was sent yet.
		if aborted := recover(); aborted != nil && aborted != http.ErrAbortHandler {
			panic(aborted)
		}
		if w.refused == errHeldMemory {
			err = caddyhttp.Error(http.StatusServiceUnavailable, w.refused)
			return
		}
		err = caddyhttp.Error(http.StatusBadGateway, fmt.Errorf("%w: %d bytes", w.refused, w.max))
	}()
	return next.ServeHTTP(w, r)
}

// Header implements http.ResponseWriter.
func (w *heldWriter) Header() http.Header { return w.inner.Header() }

// WriteHeader implements http.ResponseWriter. Informational statuses are left out, but for one that ends HTTP.
func (w *heldWriter) WriteHeader(status int) {
	switch {
	case w.status != 0:
	case status == http.StatusSwitchingProtocols:
		w.hijacked = true
		w.status = status
		w.inner.WriteHeader(status)
	case status >= 200:
		w.status = status
	}
}

// Write implements io.Writer.
func (w *heldWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.hijacked {
		return w.inner.Write(p)
	}
	switch size := w.body.Len() + len(p); {
	case w.refused != nil:
	case int64(size) > w.max:
		w.refused = errHeld
	case size > w.body.Cap():
		room := max(size, 2*w.body.Cap(), 512)
		if !w.room.takeLong(room, w.body.Cap()) {
			w.refused = errHeldMemory
			break
		}
		w.body.Grow(room - w.body.Len())
	}
	if w.refused != nil {
		w.body = bytes.Buffer{}
		w.room.give()
		return 0, w.refused
	}
	return w.body.Write(p)
}

// FlushError is what http.ResponseController calls: nothing is sent yet.
func (w *heldWriter) FlushError() error {
	w.WriteHeader(http.StatusOK)
	return nil
}

// Hijack implements http.Hijacker: the guest does not get what follows, such as a WebSocket.
func (w *heldWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.hijacked = true
	return http.NewResponseController(w.inner).Hijack()
}

// Interface guards
var (
	_ http.ResponseWriter = (*heldWriter)(nil)
	_ http.Hijacker       = (*heldWriter)(nil)
)
