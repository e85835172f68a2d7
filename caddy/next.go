// This file lets a request go on to the next handler, changed as the function says.

package gojinn

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// reservedVars are variables of a request that Caddy reads itself. Some of them are of another type than text, and a function
// that could set the others would decide which client an address belongs to, what is logged, or which files are served.
var reservedVars = map[string]bool{
	caddyhttp.ClientIPVarKey:          true,
	caddyhttp.TrustedProxyVarKey:      true,
	caddyhttp.AccessLoggerNameVarKey:  true,
	caddyhttp.LogSkipVar:              true,
	caddyhttp.LogLevelVar:             true,
	"start_time":                      true,
	"uuid":                            true,
	"unhandled":                       true,
	"root":                            true,
	"fs":                              true,
	"trace_id":                        true,
	"span_id":                         true,
	"extended_connect_websocket_body": true,
}

// functionVars is the variable of a request that holds the variables that functions have set, a map[string]string.
const functionVars = "gojinn.vars"

// goesOn is a request that goes on: what changes, and its target if that changes.
type goesOn struct {
	*engine.Next
	target *url.URL
}

// readNext returns how the request goes on, or nil if the function answers. The engine has checked the grammar; what only Caddy
// can know is checked here, before anything is changed. If that refuses it, the answer becomes one with bad output.
func readNext(answer *engine.Answer) (*goesOn, error) {
	if answer.Outcome != engine.OutcomeOK || !answer.GoesOn() {
		return nil, nil
	}
	next, err := answer.Next()
	if err != nil {
		return nil, err
	}
	refuse := func(reason string) (*goesOn, error) {
		answer.Outcome, answer.Status, answer.Reason = engine.OutcomeBadOutput, http.StatusBadGateway, []byte(reason)
		return nil, nil
	}
	for _, v := range next.Vars {
		if reservedVars[strings.ToLower(v[0])] {
			return refuse(fmt.Sprintf("the variable %q belongs to Caddy; choose another name", v[0]))
		}
	}
	on := &goesOn{Next: next}
	if next.URI != "" {
		if on.target, err = url.ParseRequestURI(next.URI); err != nil {
			return refuse(err.Error())
		}
	}
	return on, nil
}

// apply changes the request, and returns the writer for the next handler. Caddy's placeholders have pointers to the request's
// parts, so it is changed in place, as Caddy's own handlers do.
func (on *goesOn) apply(w http.ResponseWriter, r *http.Request, x *exchange) http.ResponseWriter {
	on.applyToRequest(r, x)
	setVars(r.Context(), on.Vars)
	if len(on.ResponseHeaders.Set) == 0 && len(on.ResponseHeaders.Delete) == 0 {
		return w
	}
	writer := newNextWriter(w, &on.ResponseHeaders)
	// A handler may answer without this writer, for example by an error.
	writer.change()
	return writer
}

// applyToRequest changes the request, and gives it its body again.
func (on *goesOn) applyToRequest(r *http.Request, x *exchange) {
	restoreBody(r, x)
	if on.Method != "" {
		r.Method = on.Method
	}
	if on.target != nil {
		r.URL.Path, r.URL.RawPath = on.target.Path, on.target.RawPath
		r.URL.RawQuery, r.URL.ForceQuery = on.target.RawQuery, on.target.ForceQuery
		r.URL.Fragment, r.URL.RawFragment = "", ""
		r.RequestURI = r.URL.RequestURI()
	}
	for _, name := range on.Headers.Delete {
		delete(r.Header, name)
	}
	for name, values := range grouped(on.Headers.Set) {
		if name == "Host" {
			r.Host = values[0]
			continue
		}
		r.Header[name] = values
		keepFromConnection(r.Header, name)
	}
}

// grouped yields each name with its values.
func grouped(pairs [][2]string) func(yield func(string, []string) bool) {
	return func(yield func(string, []string) bool) {
		for len(pairs) > 0 {
			name, n := pairs[0][0], 1
			for n < len(pairs) && pairs[n][0] == name {
				n++
			}
			values := make([]string, n)
			for i := range values {
				values[i] = pairs[i][1]
			}
			if !yield(name, values) {
				return
			}
			pairs = pairs[n:]
		}
	}
}

// keepFromConnection removes a name from the `Connection` headers. Otherwise a client could name a header there that a function
// sets, such as the user's name, and reverse_proxy would remove it.
func keepFromConnection(header http.Header, name string) {
	lists := header["Connection"]
	is := func(option string) bool { return strings.EqualFold(strings.Trim(option, " \t"), name) }
	for i, list := range lists {
		if options := strings.Split(list, ","); slices.ContainsFunc(options, is) {
			lists = slices.Clone(lists)
			lists[i] = strings.Join(slices.DeleteFunc(options, is), ",")
			header["Connection"] = lists
		}
	}
}

// setVars sets variables of the request, as Caddy's `vars` does, and notes them as those of functions.
func setVars(ctx context.Context, vars [][2]string) {
	if len(vars) == 0 {
		return
	}
	ours, _ := caddyhttp.GetVar(ctx, functionVars).(map[string]string)
	if ours == nil {
		ours = map[string]string{}
		caddyhttp.SetVar(ctx, functionVars, ours)
	}
	for _, v := range vars {
		ours[v[0]] = v[1]
		caddyhttp.SetVar(ctx, v[0], v[1])
	}
}

// isTunnel reports whether what follows the request's head is no body: CONNECT opens a tunnel, such as a WebSocket over HTTP/2.
func isTunnel(r *http.Request) bool { return r.Method == http.MethodConnect }

// restoreBody gives the request the body again that was read for the function.
func restoreBody(r *http.Request, x *exchange) {
	if r.Body == nil || r.Body == http.NoBody || isTunnel(r) || x.unread {
		return
	}
	length := len(x.body.bytes())
	r.Body = x.body.keep(r.Body)
	if len(r.Trailer) > 0 {
		// Only a body without an announced length has trailers.
		r.ContentLength = -1
		return
	}
	r.ContentLength, r.TransferEncoding = int64(length), nil
	r.Header["Content-Length"] = []string{strconv.Itoa(length)}
}

// nextWriter changes the headers of the response that a later handler writes, whatever that sets.
type nextWriter struct {
	*caddyhttp.ResponseWriterWrapper
	changes *engine.HeaderChanges
	// status is that which was written, and wrote whether it was the final one.
	status int
	wrote  bool
}

func newNextWriter(w http.ResponseWriter, changes *engine.HeaderChanges) *nextWriter {
	return &nextWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, changes: changes}
}

// change sets and removes the headers. It may be called more than once.
func (w *nextWriter) change() {
	header := w.Header()
	for _, name := range w.changes.Delete {
		delete(header, name)
	}
	for name, values := range grouped(w.changes.Set) {
		switch name {
		case "Set-Cookie", "Vary", "Link":
			for _, v := range values {
				if !slices.Contains(header[name], v) {
					header[name] = append(header[name], v)
				}
			}
		default:
			header[name] = values
		}
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *nextWriter) WriteHeader(status int) {
	if w.wrote {
		return
	}
	w.status = status
	w.wrote = status >= 200 || status == http.StatusSwitchingProtocols
	w.change()
	w.ResponseWriterWrapper.WriteHeader(status)
}

// Write implements io.Writer.
func (w *nextWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom implements io.ReaderFrom.
func (w *nextWriter) ReadFrom(r io.Reader) (int64, error) {
	w.WriteHeader(http.StatusOK)
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError is what http.ResponseController calls.
func (w *nextWriter) FlushError() error {
	w.WriteHeader(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Interface guards
var (
	_ http.ResponseWriter = (*nextWriter)(nil)
	_ io.ReaderFrom       = (*nextWriter)(nil)
)
