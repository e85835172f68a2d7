// This file has the headers of requests and responses: what may be sent, and how bytes are written as JSON.

package outbound

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/textproto"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

func tlsConfig(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

const (
	// maxHeaders is how many header values a request may have, and maxHeaderBytes how large they may be together.
	maxHeaders     = 256
	maxHeaderBytes = 64 << 10
)

// hopByHop are headers of one connection, and those that the host sets itself.
var hopByHop = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true, "Proxy-Connection": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// RequestHeader returns the header of a request to host, from what a guest wrote.
func RequestHeader(written map[string][]string, host string) (http.Header, error) {
	header := make(http.Header, len(written)+3)
	count, size := 0, 0
	for name, values := range written {
		if !httpguts.ValidHeaderFieldName(name) {
			return nil, fmt.Errorf("the header name %q is not a token", name)
		}
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		for _, text := range values {
			value := FromText(text)
			if !httpguts.ValidHeaderFieldValue(value) {
				return nil, fmt.Errorf("the value of the header %s has a control character", canonical)
			}
			count, size = count+1, size+len(name)+len(value)
			if count > maxHeaders || size > maxHeaderBytes {
				return nil, fmt.Errorf("there are more than %d headers, or more than %d bytes of them", maxHeaders, maxHeaderBytes)
			}
			header[canonical] = append(header[canonical], value)
		}
	}
	for _, value := range header["Host"] {
		if !strings.EqualFold(value, host) {
			return nil, fmt.Errorf("the header Host is %q, want %q, that of the url, or none", value, host)
		}
	}
	dropHopByHop(header)
	for _, name := range []string{"Host", "Content-Length", "Expect", "Proxy"} {
		delete(header, name)
	}
	return header, nil
}

// ResponseHeader returns the header of a response as a guest gets it.
func ResponseHeader(received http.Header) map[string][]string {
	dropHopByHop(received)
	for _, values := range received {
		for i, value := range values {
			values[i] = ToText(value)
		}
	}
	return received
}

// dropHopByHop removes the headers of one connection, and those that Connection names.
func dropHopByHop(header http.Header) {
	for _, list := range header["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			delete(header, textproto.CanonicalMIMEHeaderKey(strings.Trim(name, " \t")))
		}
	}
	for name := range hopByHop {
		delete(header, name)
	}
}

// In JSON a header value is text. A byte that is not part of valid UTF-8 is written as the character standIns + byte, see
// docs/contract.md.
const (
	standIns     = 0x10ff00
	firstStandIn = standIns + 0x80
)

// FromText returns the bytes of a header value that is written as text.
func FromText(text string) string {
	isStandIn := func(r rune) bool { return r >= firstStandIn }
	if !strings.ContainsFunc(text, isStandIn) {
		return text
	}
	value := make([]byte, 0, len(text))
	for _, r := range text {
		if isStandIn(r) {
			value = append(value, byte(r-standIns))
		} else {
			value = utf8.AppendRune(value, r)
		}
	}
	return string(value)
}

// ToText returns a header value as text.
func ToText(value string) string {
	if utf8.ValidString(value) {
		return value
	}
	text := make([]byte, 0, len(value)+16)
	for i := 0; i < len(value); {
		r, size := utf8.DecodeRuneInString(value[i:])
		if r == utf8.RuneError && size == 1 {
			text = utf8.AppendRune(text, standIns+rune(value[i]))
		} else {
			text = append(text, value[i:i+size]...)
		}
		i += size
	}
	return string(text)
}
