// This file notes which headers came from the client, of those that do not reach a function if they did, and drops the headers that
// a client names in `Connection`.

package gojinn

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// The headers that a client names in `Connection` are for the next hop, which is Caddy, and not for the function behind it. Those
// by which it says where its request came from are for functions behind trusted proxies only. But a handler of Caddy may have set a
// header of the same name, for example one that a function trusts, and that must stay.
//
// Caddy keeps no copy of the headers that the client sent. So the first route of a server gets a matcher that matches everything
// and records, before any handler runs, which values of such headers the client sent. Nearly all requests have none.

// clientValuesVar is the variable of a request that holds its [clientValues].
const clientValuesVar = "gojinn.client_values"

// clientValues are the headers of the client that do not reach a function, with the values that it sent.
type clientValues map[string][]string

// noteClientValues makes the server that ctx provisions record the [clientValues] of its requests, and returns what does that; nil
// without a server. It is too late if the first route has no matcher and is compiled already, which happens if the only function is
// in `handle_errors` or in a named route. Then nothing is recorded: what a client names in `Connection` reaches the function as any
// other header does, and forwarded headers reach it only from trusted proxies, even if a handler has set them.
func noteClientValues(ctx context.Context) *clientNoter {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server == nil || len(server.Routes) == 0 {
		return nil
	}
	noter := &clientNoter{}
	for _, name := range server.ClientIPHeaders {
		if name = http.CanonicalHeaderKey(name); !noter.isForwarded(name) {
			noter.clientIPHeaders = append(noter.clientIPHeaders, name)
		}
	}
	first := &server.Routes[0]
	if len(first.MatcherSets) == 0 || len(first.MatcherSets[0]) == 0 {
		first.MatcherSets = caddyhttp.MatcherSets{{noter}}
		return noter
	}
	// Changed in place, because a compiled route shares this array.
	matcher := &first.MatcherSets[0][0]
	if done, ok := (*matcher).(*clientNoter); ok {
		return done
	}
	noter.before = caddyhttp.MatcherSet{*matcher}
	*matcher = noter
	return noter
}

// clientNoter is the matcher that records the [clientValues] of the requests of one server.
type clientNoter struct {
	// before is the matcher that it replaces.
	before caddyhttp.MatcherSet
	// clientIPHeaders are the headers that the server reads the client's address from, but for those that always say it.
	clientIPHeaders []string
	// runs says that it has seen a request. Then it sees every request of its server.
	runs atomic.Bool
}

// MatchWithError implements caddyhttp.RequestMatcherWithError.
func (n *clientNoter) MatchWithError(r *http.Request) (bool, error) {
	if !n.runs.Load() {
		n.runs.Store(true)
	}
	sent := n.namedInConnection(r.Header)
	for name := range r.Header {
		if !n.isForwarded(name) {
			continue
		}
		if isTrusted(requestVars(r)) {
			break
		}
		sent = sent.with(name, r.Header)
	}
	if sent != nil {
		caddyhttp.SetVar(r.Context(), clientValuesVar, sent)
	}
	return n.before.MatchWithError(r)
}

// namedInConnection returns the headers that the client named in `Connection`.
func (n *clientNoter) namedInConnection(header http.Header) (named clientValues) {
	for _, list := range header["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.Trim(name, " \t")
			switch strings.ToLower(name) {
			case "", "close", "keep-alive", "upgrade", "te":
				continue // These are no headers, or never reach a guest. Clients hardly ever send others.
			}
			name = http.CanonicalHeaderKey(name)
			if n.isForwarded(name) {
				continue // A client must not be able to remove what a proxy has set.
			}
			named = named.with(name, header)
		}
	}
	return named
}

// with adds the values of a header, if there is one of that name.
func (v clientValues) with(name string, header http.Header) clientValues {
	values, ok := header[name]
	if !ok {
		return v
	}
	if v == nil {
		v = clientValues{}
	}
	// Copied, because handlers change values in place.
	v[name] = append([]string(nil), values...)
	return v
}

// has reports whether the client sent this value of a header, and no handler has set it.
func (v clientValues) has(name, value string) bool {
	for _, sent := range v[name] {
		// The client's value is the same string in memory, because a handler may set an equal one. A handler that rewrites
		// a value without changing it counts as having set it.
		if len(sent) == len(value) && (value == "" || unsafe.StringData(sent) == unsafe.StringData(value)) {
			return true
		}
	}
	return false
}

// Interface guard
var _ caddyhttp.RequestMatcherWithError = (*clientNoter)(nil)
