// This file has the client: pooled connections, and the check of each address before it is dialled.

package outbound

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// Policy is what a client may connect to. Functions share connections only if they have the same policy: a connection that one
// function may make is not given to another that may not.
type Policy struct {
	// Private are the special addresses that may be dialled.
	Private []netip.Prefix
	// Roots verify the certificates of servers; nil for those of the system.
	Roots *x509.CertPool

	// Resolver and Connect are for tests, and nil otherwise: Resolver looks names up, and Connect gets each address that has
	// passed the check and is about to be connected to, and may refuse it.
	Resolver *net.Resolver
	Connect  func(address string) error
}

// Client sends requests, over connections that are kept for the next ones.
type Client struct {
	http.RoundTripper
	transport *http.Transport
}

// ErrAddress says that a host has an address that may not be dialled.
var ErrAddress = errors.New("the host has a private, local or otherwise special address, which allow_private does not name")

const (
	dialTimeout = 30 * time.Second
	// maxResponseHeader is how large the headers of a response may be, in bytes.
	maxResponseHeader = 256 << 10
	// idlePerHost is how many connections to a host are kept. Functions come in bursts, all to the same few hosts.
	idlePerHost = 64
	idleTimeout = 90 * time.Second
)

// NewClient returns a client.
func NewClient(policy Policy) *Client {
	resolver := policy.Resolver
	if resolver == nil {
		// Go's resolver waits without a thread; that of the C library takes one for each look-up.
		resolver = &net.Resolver{PreferGo: true}
	}
	guard := newGuard(policy.Private)
	dialer := &net.Dialer{
		Timeout:  dialTimeout,
		Resolver: resolver,
		ControlContext: func(_ context.Context, network, address string, c syscall.RawConn) error {
			if guard.Safe(network, address, c) != nil {
				return ErrAddress
			}
			if policy.Connect != nil {
				return policy.Connect(address)
			}
			return nil
		},
	}
	transport := &http.Transport{
		// No proxy, whatever the environment says: it would look names up itself.
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           16 * idlePerHost,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: maxResponseHeader,
	}
	if policy.Roots != nil {
		transport.TLSClientConfig = tlsConfig(policy.Roots)
	}
	return &Client{RoundTripper: transport, transport: transport}
}

// Close closes the connections that no request uses.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// azureMetadata answers inside of Azure only, although it is outside of the registries of special addresses.
var azureMetadata = netip.MustParsePrefix("168.63.129.16/32")

// newGuard returns the check of addresses: those of IANA's registries of special addresses are refused, unless private has them.
func newGuard(private []netip.Prefix) *ssrf.Guardian {
	var v4, v6 []netip.Prefix
	for _, prefix := range private {
		if prefix.Addr().Is4() {
			v4 = append(v4, prefix)
		} else {
			v6 = append(v6, prefix)
		}
	}
	return ssrf.New(
		ssrf.WithAnyPort(), // The list of allowed origins has the ports.
		ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...),
		ssrf.WithDeniedV4Prefixes(azureMetadata),
	)
}
