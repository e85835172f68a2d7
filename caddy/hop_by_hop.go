// This file drops the headers that a client names in `Connection`.

package gojinn

import (
	"context"
	"net/http"
	"strings"
	"unsafe"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// The headers that a client names in `Connection` are for the next hop, which is Caddy, and not for the function behind it. But a
// handler of Caddy may have set a header of the same name, for example one that a function trusts, and that must stay.
//
// Caddy keeps no copy of the headers that the client sent. So the first route of a server gets a matcher that matches everything
// and records, before any handler runs, which values the client named in `Connection`. It does nothing for requests that name
// no headers there, which are nearly all.

// hopByHopVar is the variable of a request that holds its [namedAway].
const hopByHopVar = "gojinn.hop_by_hop"

// namedAway are the headers that the client named in `Connection`, with the values that it sent.
type namedAway map[string][]string

// noteHopByHop makes the server that ctx provisions record the [namedAway] of its requests. It is too late if the first route has
// no matcher and is compiled already, which happens if the only function is in `handle_errors` or in a named route. Then nothing
// is recorded, and what a client names in `Connection` reaches the function as any other header does.
func noteHopByHop(ctx context.Context) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server == nil || len(server.Routes) == 0 {
		return
	}
	first := &server.Routes[0]
	if len(first.MatcherSets) == 0 || len(first.MatcherSets[0]) == 0 {
		first.MatcherSets = caddyhttp.MatcherSets{{hopByHopNoter{}}}
		return
	}
	// Changed in place, because a compiled route shares this array.
	matcher := &first.MatcherSets[0][0]
	if _, done := (*matcher).(hopByHopNoter); !done {
		*matcher = hopByHopNoter{before: caddyhttp.MatcherSet{*matcher}}
	}
}

// hopByHopNoter is the matcher that records what a client named in `Connection`.
type hopByHopNoter struct {
	// before is the matcher that it replaces.
	before caddyhttp.MatcherSet
}

// MatchWithError implements caddyhttp.RequestMatcherWithError.
func (m hopByHopNoter) MatchWithError(r *http.Request) (bool, error) {
	if connection := r.Header["Connection"]; len(connection) > 0 {
		if named := newNamedAway(r.Header, connection); named != nil {
			caddyhttp.SetVar(r.Context(), hopByHopVar, named)
		}
	}
	return m.before.MatchWithError(r)
}

func newNamedAway(header http.Header, connection []string) (named namedAway) {
	for _, list := range connection {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.Trim(name, " \t")
			switch strings.ToLower(name) {
			case "", "close", "keep-alive", "upgrade", "te":
				continue // These are no headers, or never reach a guest. Clients hardly ever send others.
			}
			name = http.CanonicalHeaderKey(name)
			if values, ok := header[name]; ok {
				if named == nil {
					named = namedAway{}
				}
				// Copied, because handlers change values in place.
				named[name] = append([]string(nil), values...)
			}
		}
	}
	return named
}

// namedAwayBy returns what the client of a request named in `Connection`.
func namedAwayBy(r *http.Request) namedAway {
	named, _ := caddyhttp.GetVar(r.Context(), hopByHopVar).(namedAway)
	return named
}

// has reports whether the client sent this value of a header that it named in `Connection`, and no handler has set it.
func (n namedAway) has(name, value string) bool {
	for _, sent := range n[name] {
		// The client's value is the same string in memory, because a handler may set an equal one. A handler that rewrites
		// a value without changing it counts as having set it.
		if len(sent) == len(value) && (value == "" || unsafe.StringData(sent) == unsafe.StringData(value)) {
			return true
		}
	}
	return false
}

// Interface guard
var _ caddyhttp.RequestMatcherWithError = hopByHopNoter{}
