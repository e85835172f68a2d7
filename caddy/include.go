// This file has the fields of a request that a function gets only if it includes them.

package gojinn

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// requestFields are the fields that `include` may name, in the order of the request.
var requestFields = []string{"remote_addr", "client_ip", "scheme", "host", "proto", "original_uri"}

// alwaysThere are the fields that each function gets.
var alwaysThere = []string{"method", "uri", "headers", "body", "body_base64", "trace_id"}

func parseInclude(h *Handler, d *caddyfile.Dispenser) error {
	h.Include = d.RemainingArgs()
	if len(h.Include) == 0 {
		return d.Errf("include takes the names of fields: some of %s", strings.Join(requestFields, ", "))
	}
	if err := checkInclude(h.Include); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func checkInclude(fields []string) error {
	for i, field := range fields {
		switch {
		case slices.Contains(alwaysThere, field):
			return fmt.Errorf("include names %s, which each request has; leave it out", field)
		case !slices.Contains(requestFields, field):
			return fmt.Errorf("include names %q, which is not one of %s%s", field, strings.Join(requestFields, ", "),
				didYouMean(field, requestFields))
		case slices.Contains(fields[:i], field):
			return fmt.Errorf("include names %s twice; remove one", field)
		}
	}
	return nil
}

// checkInclude checks the fields of a function, whose contract is known.
func (h *Handler) checkInclude() error {
	if len(h.Include) > 0 && h.Contract != contractJSON {
		return fmt.Errorf("include adds fields to requests of the contract json; leave it out, for functions with the contract %s have them anyway", h.Contract)
	}
	return checkInclude(h.Include)
}

// include returns the fields for the engine, in their order. The runtime of scripts makes a Request of all of them.
func (h *Handler) include(module string) []string {
	if isScript(module) && h.Contract == contractJSON {
		return requestFields
	}
	var fields []string
	for _, field := range requestFields {
		if slices.Contains(h.Include, field) {
			fields = append(fields, field)
		}
	}
	return fields
}
