// This file drops the headers by which a client that is no trusted proxy says where its request came from.

package gojinn

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A proxy in front of Caddy says in headers who its client is, and any client can say the same. So a function gets these headers
// only of the proxies that the server trusts (`trusted_proxies`), as they came. What a handler of Caddy has set stays.

// isForwarded reports whether a header (in canonical form) says where a request came from: X-Forwarded-*, Forwarded, X-Real-Ip, and
// those that Caddy reads the client's address from (`client_ip_headers`).
func (n *clientNoter) isForwarded(name string) bool {
	if strings.HasPrefix(name, "X-Forwarded-") || name == "Forwarded" || name == "X-Real-Ip" {
		return true
	}
	return n != nil && slices.Contains(n.clientIPHeaders, name)
}

// requestVars returns the variables of a request; nil if it has none.
func requestVars(r *http.Request) map[string]any {
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	return vars
}

// isTrusted reports whether the request with these variables comes from a trusted proxy.
func isTrusted(vars map[string]any) bool {
	trusted, _ := vars[caddyhttp.TrustedProxyVarKey].(bool)
	return trusted
}

// withheld says which headers of a request do not reach the function.
type withheld struct {
	noter *clientNoter
	// sent are the values that the client sent, of the headers that may be withheld.
	sent clientValues
	// forwarded says that the forwarded headers of the client are withheld, and unsure that it is not known which are the client's.
	forwarded, unsure bool
}

// withheldOf returns what is withheld of the request with these variables. noter is nil if the function belongs to no server.
func withheldOf(vars map[string]any, noter *clientNoter) withheld {
	sent, _ := vars[clientValuesVar].(clientValues)
	return withheld{noter: noter, sent: sent, forwarded: !isTrusted(vars), unsure: noter == nil || !noter.runs.Load()}
}

// has reports whether a value of a header is withheld.
func (w *withheld) has(name, value string) bool {
	if w.forwarded && w.unsure && w.noter.isForwarded(name) {
		return true
	}
	return w.sent != nil && w.sent.has(name, value)
}
