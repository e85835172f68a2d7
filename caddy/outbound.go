// This file has the setting `outbound` of a function: which servers it may call by HTTP, and within which limits.

package gojinn

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/pauloappbr/gojinn/caddy/internal/outbound"
)

// Outbound says which servers a function may call by HTTP. Without it a function calls none.
type Outbound struct {
	// Allow has the servers: scheme and host, and a port if it is not that of the scheme, as in `https://api.example.com`. The
	// first label of the host may be `*`, which matches any label. Placeholders that do not depend on a request may be used.
	// Required.
	Allow []string `json:"allow,omitempty"`

	// AllowPrivate has the private, local and otherwise special addresses, or ranges of them in CIDR notation, that the servers
	// may have. Default: none.
	AllowPrivate []string `json:"allow_private,omitempty"`

	// MaxRequests is how many requests the function may send for each request to it, redirects included. Default: 50.
	MaxRequests int `json:"max_requests,omitempty"`

	// MaxResponse is the largest body of a response, in bytes. Default: 10000000.
	MaxResponse int64 `json:"max_response,omitempty"`

	// Timeout is the longest time that a request may take, from its beginning to the last byte of the response. Default: 30s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// TrustPoolRaw is a module that has the certificates of the authorities to trust, in place of the system's.
	TrustPoolRaw json.RawMessage `json:"tls_trust_pool,omitempty" caddy:"namespace=tls.ca_pool.source inline_key=provider"`

	patterns []outbound.Pattern
	client   *sharedClient
	key      clientKey
	// holds says that the config has a reference to the client.
	holds bool
}

// The defaults, as in docs/caddyfile.md.
const (
	defaultMaxRequests     = 50
	defaultMaxResponse     = 10_000_000
	defaultOutboundTimeout = 30 * time.Second
)

// maxMaxRequests is far more than one request needs.
const maxMaxRequests = 10_000

// provision sets defaults, checks the settings and finds the client.
func (o *Outbound) provision(ctx caddy.Context) error {
	if o.MaxRequests == 0 {
		o.MaxRequests = defaultMaxRequests
	}
	if o.MaxResponse == 0 {
		o.MaxResponse = defaultMaxResponse
	}
	if o.Timeout == 0 {
		o.Timeout = caddy.Duration(defaultOutboundTimeout)
	}
	if err := o.check(); err != nil {
		return err
	}
	repl := caddy.NewReplacer()
	o.patterns = nil
	for _, text := range o.Allow {
		resolved, err := resolveSetting(repl, "allow", text)
		if err != nil {
			return err
		}
		pattern, err := outbound.ParsePattern(resolved)
		if err != nil {
			return err
		}
		o.patterns = append(o.patterns, pattern)
	}
	private, err := o.privatePrefixes(repl)
	if err != nil {
		return err
	}
	var roots *x509.CertPool
	if o.TrustPoolRaw != nil {
		value, err := ctx.LoadModule(o, "TrustPoolRaw")
		if err != nil {
			return fmt.Errorf("tls_trust_pool of outbound: %w", err)
		}
		roots = value.(caddytls.CA).CertPool()
	}
	o.client, o.key, err = loadClient(private, roots)
	o.holds = err == nil
	return err
}

// check checks what needs no placeholder.
func (o *Outbound) check() error {
	if len(o.Allow) == 0 {
		return errors.New("outbound allows nothing; write for example `allow https://api.example.com` into it, or leave it out")
	}
	if o.MaxRequests < 0 || o.MaxRequests > maxMaxRequests {
		return fmt.Errorf("max_requests is %d, want a number from 1 to %d", o.MaxRequests, maxMaxRequests)
	}
	for _, text := range o.Allow {
		if err := checkAllow(text); err != nil {
			return err
		}
	}
	for _, text := range o.AllowPrivate {
		if err := checkAllowPrivate(text); err != nil {
			return err
		}
	}
	return errors.Join(checkSize("max_response", o.MaxResponse), checkDuration("timeout", o.Timeout))
}

// checkAllow checks an argument of allow, unless it has placeholders.
func checkAllow(text string) error {
	if strings.Contains(text, "{") {
		return nil
	}
	_, err := outbound.ParsePattern(text)
	return err
}

func checkAllowPrivate(text string) error {
	if strings.Contains(text, "{") {
		return nil
	}
	_, err := parsePrefix(text)
	return err
}

// parsePrefix reads an address or a range of addresses.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" && !addr.Is4In6() {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil || prefix.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("allow_private %s is neither an address nor a range; write for example 10.0.0.0/8 or ::1", text)
	case prefix.Masked() != prefix:
		return netip.Prefix{}, fmt.Errorf("allow_private %s has bits behind its prefix; write %s", text, prefix.Masked())
	}
	return prefix, nil
}

func (o *Outbound) privatePrefixes(repl *caddy.Replacer) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, text := range o.AllowPrivate {
		resolved, err := resolveSetting(repl, "allow_private", text)
		if err != nil {
			return nil, err
		}
		prefix, err := parsePrefix(resolved)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, prefix)
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return slices.Compact(prefixes), nil
}

// resolveSetting returns a setting with its placeholders resolved, of which none may depend on a request.
func resolveSetting(repl *caddy.Replacer, name, text string) (string, error) {
	resolved, err := repl.ReplaceOrErr(text, true, true)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w; it cannot depend on the request", name, text, err)
	}
	return resolved, nil
}

// allows reports whether the function may call an origin.
func (o *Outbound) allows(origin outbound.Origin) bool {
	return slices.ContainsFunc(o.patterns, func(p outbound.Pattern) bool { return p.Matches(origin) })
}

// cleanup returns the reference to the client; requests keep theirs. It may be called twice.
func (o *Outbound) cleanup() error {
	if o == nil || !o.holds {
		return nil
	}
	o.holds = false
	_, err := clients.Delete(o.key)
	return err
}

// clients outlive configs, so that connections do.
var clients = caddy.NewUsagePool()

// clientKey is what functions that share connections have in common.
type clientKey struct {
	private string
	// roots is the same pointer for equal pools, see loadClient.
	roots *x509.CertPool
}

type sharedClient struct {
	*outbound.Client
}

// Destruct implements caddy.Destructor. Requests that are running keep their connections.
func (c *sharedClient) Destruct() error {
	c.Close()
	return nil
}

// newOutboundClient is a variable so that tests can look names up themselves.
var newOutboundClient = outbound.NewClient

// loadClient takes a reference to the client for these addresses and authorities. Configs are loaded one after the other.
func loadClient(private []netip.Prefix, roots *x509.CertPool) (*sharedClient, clientKey, error) {
	key := clientKey{private: fmt.Sprint(private), roots: roots}
	clients.Range(func(k, _ any) bool {
		other := k.(clientKey)
		if other.private == key.private && (roots == nil) == (other.roots == nil) && (roots == nil || roots.Equal(other.roots)) {
			key = other
			return false
		}
		return true
	})
	value, _, err := clients.LoadOrNew(key, func() (caddy.Destructor, error) {
		return &sharedClient{newOutboundClient(outbound.Policy{Private: private, Roots: key.roots})}, nil
	})
	if err != nil {
		return nil, key, err
	}
	return value.(*sharedClient), key, nil
}

// Interface guard
var _ caddy.Destructor = (*sharedClient)(nil)
