package gojinn

import (
	"context"
	"net/http"
	"strings"
	"unsafe"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A client may name headers in `Connection`: they are for the next hop, which Caddy is, and not for the function behind it.
// That must not take away what a handler of Caddy's has set under the same name, such as a header that a function trusts.
//
// Caddy keeps no copy of the headers that the client sent. So the first route of a server gets a matcher that matches
// everything and notes, before any handler has run, which values the client named away. It does something only for requests
// that name headers in `Connection`, which next to none do.

// hopByHopVar is the variable of a request that holds its [namedAway].
const hopByHopVar = "gojinn.hop_by_hop"

// namedAway are the values of headers that the client named in `Connection`, as the client sent them.
type namedAway map[string][]string

// noteHopByHop arranges for the requests of the server that ctx provisions to have their [namedAway] noted. Where that comes
// too late, because the first route has no matcher and is compiled already (for a function in `handle_errors` or in a named
// route alone), nothing is noted, and what a client names in `Connection` reaches the function like any other header.
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
	// In place, since a compiled route shares this array.
	matcher := &first.MatcherSets[0][0]
	if _, done := (*matcher).(hopByHopNoter); !done {
		*matcher = hopByHopNoter{before: caddyhttp.MatcherSet{*matcher}}
	}
}

// hopByHopNoter is the matcher that notes what a client named in `Connection`.
type hopByHopNoter struct {
	// before is the matcher in whose place it is.
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
				continue // These name no header or one that never reaches a guest, and are all that is seen in practice.
			}
			name = http.CanonicalHeaderKey(name)
			if values, ok := header[name]; ok {
				if named == nil {
					named = namedAway{}
				}
				// A copy: handlers replace parts of values in place.
				named[name] = append([]string(nil), values...)
			}
		}
	}
	return named
}

// namedAwayBy are the values that the request's client named away.
func namedAwayBy(r *http.Request) namedAway {
	named, _ := caddyhttp.GetVar(r.Context(), hopByHopVar).(namedAway)
	return named
}

// has says whether a value of a header is one that the client sent and named away, and not one that a handler has set.
func (n namedAway) has(name, value string) bool {
	for _, sent := range n[name] {
		// It is the client's if it is the same string in memory. A handler may well set an equal one; one that rewrites a
		// value and happens to change nothing counts as having set it.
		if len(sent) == len(value) && (value == "" || unsafe.StringData(sent) == unsafe.StringData(value)) {
			return true
		}
	}
	return false
}

// Interface guard
var _ caddyhttp.RequestMatcherWithError = hopByHopNoter{}
