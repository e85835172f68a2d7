// This file has what the contract cgi adds to a request: variables that only the server knows, and a body that is read as it
// arrives.

package gojinn

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// contractCGI is the contract of programs of the Common Gateway Interface.
const contractCGI = "cgi"

// CGI has the settings of a function with the contract `cgi`.
type CGI struct {
	// Split are the endings of script names, such as `.cgi`: a path is the script's name up to the first of them that is followed
	// by a slash or by the end, and the rest is PATH_INFO. Case does not matter. Default: none, so that all of the path is
	// PATH_INFO.
	Split []string `json:"split,omitempty"`

	// PassAuthorization gives the function the header Authorization, as HTTP_AUTHORIZATION. Default: false.
	PassAuthorization bool `json:"pass_authorization,omitempty"`
}

// check checks the settings.
func (c *CGI) check(contract string) error {
	if c == nil {
		return nil
	}
	if contract != contractCGI {
		return fmt.Errorf("the settings of CGI are for functions with `contract cgi`, and this one has `contract %s`", contract)
	}
	for _, ending := range c.Split {
		if ending == "" || strings.Contains(ending, "/") {
			return fmt.Errorf("split %q is no ending of a script's name; write for example `split .cgi`", ending)
		}
	}
	return nil
}

// parseContract reads `contract`, whose block is for cgi only.
func parseContract(h *Handler, d *caddyfile.Dispenser) error {
	name, err := oneArg(d, "contract")
	if err != nil {
		return err
	}
	if err := checkContract(name); err != nil {
		return d.WrapErr(err)
	}
	h.Contract = name
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if name != contractCGI {
			return d.Errf("contract %s has no block", name)
		}
		if h.CGI == nil {
			h.CGI = new(CGI)
		}
		switch option := d.Val(); option {
		case "split":
			if len(h.CGI.Split) > 0 {
				return d.Err("split is given twice; write all endings into one line")
			}
			if h.CGI.Split = d.RemainingArgs(); len(h.CGI.Split) == 0 {
				return d.Err("split takes endings of script names, as in `split .cgi`")
			}
		case "pass_authorization":
			if d.NextArg() {
				return d.Err("pass_authorization takes no argument; leave it out if the function must not get the header")
			}
			h.CGI.PassAuthorization = true
		default:
			known := []string{"pass_authorization", "split"}
			return d.Errf("unknown option %q of contract cgi%s", option, didYouMean(option, known))
		}
	}
	if err := h.CGI.check(name); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// readCGI prepares a request for a function of the contract cgi: it writes the head, and reads the body only if the function
// could not be told its length otherwise.
func (h *Handler) readCGI(x *exchange, f *sharedFunction, r *http.Request, t *traced) error {
	if strings.Contains(r.URL.Path, "\x00") {
		return caddyhttp.Error(http.StatusBadRequest, fmt.Errorf("the path contains a NUL, which no variable of CGI can hold"))
	}
	length := r.ContentLength
	x.body.reset()
	switch {
	case r.Body == nil, r.Body == http.NoBody, isTunnel(r), length == 0:
		length = 0
	case length > h.MaxBody:
		return tooLarge(h.MaxBody)
	case length < 0, needsBody(h.perRequest):
		// A program needs the length before the body.
		if err := h.readBody(x, f, r); err != nil {
			return err
		}
		length = int64(len(x.body.bytes()))
	default:
		x.upload = newUpload(x.stream.w, r)
	}
	seen := r
	if h.CGI == nil || !h.CGI.PassAuthorization {
		if _, ok := r.Header["Authorization"]; ok {
			seen = new(http.Request)
			*seen = *r
			seen.Header = maps.Clone(r.Header)
			delete(seen.Header, "Authorization")
		}
	}
	writeHead(&x.head, seen, t, h.noter, length, h.cgiVariables(r))
	if err := writePerRequest(&x.head, r, h.perRequest, x.body.bytes()); err != nil {
		return caddyhttp.Error(http.StatusBadRequest, err)
	}
	return nil
}

// needsBody reports whether a per-request value may depend on the request's body.
func needsBody(perRequest []value) bool {
	for _, v := range perRequest {
		for _, p := range v.parts {
			// Other placeholders, such as those of `map`, may have any value.
			if p.key != "" && (!strings.HasPrefix(p.key, "http.") || strings.HasPrefix(p.key, "http.request.body")) {
				return true
			}
		}
	}
	return false
}

// cgiVariables returns the variables that depend on the server's config. Their names have the prefix by which the engine knows
// them: no header can have one.
func (h *Handler) cgiVariables(r *http.Request) []header {
	path := r.URL.Path
	script := strippedPrefix(r)
	info := path
	file := ""
	if h.CGI != nil {
		if at := splitScript(path, h.CGI.Split); at >= 0 {
			file, info = path[:at], path[at:]
			script += file
		}
	}
	variables := []header{
		{":cgi:SERVER_SOFTWARE", serverSoftware()},
		{":cgi:SCRIPT_NAME", script},
		{":cgi:PATH_INFO", info},
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return variables
	}
	if root, _ := repl.GetString("http.vars.root"); root != "" {
		if absolute, err := filepath.Abs(root); err == nil {
			root = absolute
		}
		variables = append(variables, header{":cgi:DOCUMENT_ROOT", root})
		if file != "" {
			variables = append(variables, header{":cgi:SCRIPT_FILENAME", caddyhttp.SanitizedPathJoin(root, file)})
		}
		if info != "" {
			variables = append(variables, header{":cgi:PATH_TRANSLATED", caddyhttp.SanitizedPathJoin(root, info)})
		}
	}
	if user, _ := repl.GetString("http.auth.user.id"); user != "" {
		variables = append(variables, header{":cgi:REMOTE_USER", user})
		if kind, _, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
			variables = append(variables, header{":cgi:AUTH_TYPE", kind})
		}
	}
	return variables
}

// serverSoftware is the value of SERVER_SOFTWARE. Caddy reads the information of the whole build to find its version.
var serverSoftware = sync.OnceValue(func() string {
	version, _ := caddy.Version()
	return "Caddy/" + version
})

// strippedPrefix returns what handle_path or `uri strip_prefix` has removed from the path, without a slash at its end.
func strippedPrefix(r *http.Request) string {
	original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok || original.URL == nil {
		return ""
	}
	before, ok := strings.CutSuffix(pathOf(original.URL), pathOf(r.URL))
	if !ok {
		return ""
	}
	return strings.TrimSuffix(before, "/")
}

func pathOf(u *url.URL) string {
	if u.Path == "" {
		return "/"
	}
	return u.Path
}

// splitScript returns where the script's name ends in path, or -1.
func splitScript(path string, endings []string) int {
	lower := strings.ToLower(path)
	if len(lower) != len(path) {
		// Some letters have other lengths in lower case.
		lower = path
	}
	for _, ending := range endings {
		ending = strings.ToLower(ending)
		for from := 0; ; {
			at := strings.Index(lower[from:], ending)
			if at < 0 {
				break
			}
			end := from + at + len(ending)
			if end == len(path) || path[end] == '/' {
				return end
			}
			from = end
		}
	}
	return -1
}

// checkLength refuses a whole answer whose length is not that which its function has set.
func checkLength(r *http.Request, answer *engine.Answer) {
	if answer.Outcome != engine.OutcomeOK || r.Method == http.MethodHead || answer.Status == http.StatusNotModified {
		return
	}
	headers := answer.Headers()
	for name, value, ok := headers.Next(); ok; name, value, ok = headers.Next() {
		if string(name) == "Content-Length" && string(value) != strconv.Itoa(len(answer.Body)) {
			answer.Outcome, answer.Status = engine.OutcomeBadOutput, http.StatusBadGateway
			answer.Reason = fmt.Appendf(nil, "the response's Content-Length is %s, and its body has %d bytes", value, len(answer.Body))
			return
		}
	}
}
