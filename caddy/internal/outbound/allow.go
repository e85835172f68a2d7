// Package outbound sends the HTTP requests of functions: it knows what is allowed, and checks each address that is dialled.
package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Origin is the part of a URL that is allowed or not. Two spellings of one origin are equal.
type Origin struct {
	// Scheme is http or https.
	Scheme string
	// Host is a name in lower case and in ASCII, or an address in its usual notation, without brackets.
	Host string
	Port uint16
}

// String returns the origin as it is written into the Caddyfile.
func (o Origin) String() string { return o.Scheme + "://" + o.authority() }

// authority returns host and port for a URL, without the port if it is that of the scheme.
func (o Origin) authority() string {
	host := o.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if o.Port == defaultPort(o.Scheme) {
		return host
	}
	return net.JoinHostPort(o.Host, strconv.Itoa(int(o.Port)))
}

func defaultPort(scheme string) uint16 {
	if scheme == "https" {
		return 443
	}
	return 80
}

// maxURL is the longest URL that is sent, in bytes.
const maxURL = 16 << 10

// ParseURL returns a URL and its origin. The URL's host is written as the origin is, so that what was checked is what is dialled.
func ParseURL(text string) (*url.URL, Origin, error) {
	if text == "" {
		return nil, Origin{}, errors.New("there is no url")
	}
	if len(text) > maxURL {
		return nil, Origin{}, fmt.Errorf("the url has %d bytes, more than %d", len(text), maxURL)
	}
	u, err := url.Parse(text)
	if err != nil {
		// The error of package url has the whole text.
		if inner := (*url.Error)(nil); errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, Origin{}, fmt.Errorf("the url cannot be parsed: %w", err)
	}
	return NormalizeURL(u)
}

// NormalizeURL does the same with a URL that is parsed, such as the target of a redirect.
func NormalizeURL(u *url.URL) (*url.URL, Origin, error) {
	origin, err := originOf(u)
	if err != nil {
		return nil, Origin{}, err
	}
	normal := *u
	normal.Scheme, normal.Host = origin.Scheme, origin.authority()
	normal.Fragment, normal.RawFragment = "", ""
	return &normal, origin, nil
}

func originOf(u *url.URL) (Origin, error) {
	scheme := strings.ToLower(u.Scheme)
	switch {
	case scheme != "http" && scheme != "https":
		return Origin{}, fmt.Errorf("the url has the scheme %q, want http or https", u.Scheme)
	case u.User != nil:
		return Origin{}, errors.New("the url has a user or a password; send the header Authorization")
	case u.Opaque != "" || u.Host == "":
		return Origin{}, errors.New("the url has no host")
	}
	origin := Origin{Scheme: scheme, Port: defaultPort(scheme)}
	if text := u.Port(); text != "" {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return Origin{}, fmt.Errorf("the url has the port %q, want a number from 1 to 65535", text)
		}
		origin.Port = uint16(port)
	}
	var err error
	origin.Host, err = parseHost(u.Hostname(), strings.HasPrefix(u.Host, "["))
	return origin, err
}

// hostProfile maps names as browsers do: to lower case, to ASCII, and full-width forms to the usual ones. What may be in a
// label is checked afterwards, because the rules of STD3 forbid the underscore, which names of services have.
var hostProfile = idna.New(
	idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false), idna.VerifyDNSLength(true))

// parseHost returns the only spelling of a host. bracketed says that the host was written in brackets.
func parseHost(host string, bracketed bool) (string, error) {
	if bracketed {
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() {
			return "", fmt.Errorf("the host [%s] is not an IPv6 address", host)
		}
		if addr.Zone() != "" {
			return "", fmt.Errorf("the host [%s] has a zone; name the address without one", host)
		}
		return addr.String(), nil
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is4() {
		return addr.String(), nil
	}
	ascii, err := hostProfile.ToASCII(host)
	switch {
	case strings.HasSuffix(host, "."):
		return "", fmt.Errorf("the host %q ends with a dot; leave it out", host)
	case err != nil:
		return "", fmt.Errorf("the host %q is not a name: %w", host, err)
	case !utf8.ValidString(host):
		return "", fmt.Errorf("the host %q is not a name: it is not UTF-8", host)
	}
	for _, c := range []byte(ascii) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return "", fmt.Errorf("the host %q is not a name: it contains %q", host, c)
		}
	}
	if last := ascii[strings.LastIndexByte(ascii, '.')+1:]; isNumber(last) {
		return "", fmt.Errorf("the host %q is neither a name nor an address in the usual notation, such as 192.0.2.1", host)
	}
	return ascii, nil
}

// isNumber reports whether programs take a label for a part of an IPv4 address: digits, or 0x and hexadecimal digits.
func isNumber(label string) bool {
	if strings.Trim(label, "0123456789") == "" {
		return true
	}
	digits, hex := strings.CutPrefix(label, "0x")
	return hex && strings.Trim(digits, "0123456789abcdef") == ""
}

// Pattern is what an `allow` names: an origin, in which the first label of the host may be any.
type Pattern struct {
	origin Origin
	// wildcard says that exactly one label precedes the host of origin.
	wildcard bool
}

// ParsePattern reads an argument of `allow`.
func ParsePattern(text string) (Pattern, error) {
	bad := func(why string) (Pattern, error) {
		return Pattern{}, fmt.Errorf("allow %s: %s; write scheme and host, and a port if it is another, as in https://api.example.com "+
			"or https://*.example.com:8443", text, why)
	}
	if !strings.Contains(text, "://") {
		return bad("it has no scheme")
	}
	scheme, rest, _ := strings.Cut(text, "://")
	var p Pattern
	if after, ok := strings.CutPrefix(rest, "*."); ok {
		rest, p.wildcard = after, true
	}
	if strings.Contains(rest, "*") {
		return bad("a * may only be the first label of the host")
	}
	u, err := url.Parse(scheme + "://" + rest)
	if err != nil {
		return bad("it is not a URL")
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || strings.Contains(rest, "#") {
		return bad("a path or query cannot be allowed, only a whole host")
	}
	if p.origin, err = originOf(u); err != nil {
		return bad(err.Error())
	}
	if _, err := netip.ParseAddr(p.origin.Host); err == nil && p.wildcard {
		return bad("an address has no labels")
	}
	return p, nil
}

// String returns the pattern as it is written into the Caddyfile.
func (p Pattern) String() string {
	if p.wildcard {
		return p.origin.Scheme + "://*." + p.origin.authority()
	}
	return p.origin.String()
}

// Matches reports whether the pattern allows an origin.
func (p Pattern) Matches(o Origin) bool {
	if p.wildcard {
		label, parent, ok := strings.Cut(o.Host, ".")
		if !ok || label == "" {
			return false
		}
		if _, err := netip.ParseAddr(o.Host); err == nil {
			return false
		}
		o.Host = parent
	}
	return o == p.origin
}
