// Package nats is the key-value store `nats`: a bucket of JetStream, which several Caddys share.
package nats

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pauloappbr/gojinn/caddy/kv"
)

func init() {
	caddy.RegisterModule(new(NATS))
}

// NATS keeps values in a key-value bucket of JetStream, which is made if it is missing. It needs NATS 2.11 or newer.
type NATS struct {
	// URL names the server, or several with commas between them: `nats://[user:password@]host[:port]`, `tls://` for TLS.
	// Placeholders that do not depend on a request may be used, so that the password is not in the config. Required.
	URL string `json:"url,omitempty"`

	// Bucket is the bucket's name: letters, digits, - and _. Default: `gojinn_` and the store's name.
	Bucket string `json:"bucket,omitempty"`

	// Credentials is a file with the credentials of a user, relative to the process's working directory. Default: none.
	Credentials string `json:"credentials,omitempty"`

	// Replicas is on how many servers a bucket is kept that is made, from 1 to 5. Default: 1.
	Replicas int `json:"replicas,omitempty"`

	url, credentials string
}

// CaddyModule returns the Caddy module information.
func (*NATS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: kv.Namespace + ".nats", New: func() caddy.Module { return new(NATS) }}
}

// UnmarshalCaddyfile reads
//
//	nats <url> {
//		bucket      <name>
//		credentials <file>
//		replicas    <number>
//	}
func (n *NATS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.NextArg() || d.Val() == "" {
		return d.Err("the store nats needs the server's URL, as in `nats nats://127.0.0.1:4222`")
	}
	n.URL = d.Val()
	if d.NextArg() {
		return d.ArgErr()
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		var text string
		if !d.AllArgs(&text) {
			return d.ArgErr()
		}
		if seen[option] {
			return d.Errf("%s is given twice", option)
		}
		seen[option] = true
		switch option {
		case "bucket":
			n.Bucket = text
		case "credentials":
			n.Credentials = text
		case "replicas":
			var err error
			if n.Replicas, err = strconv.Atoi(text); err != nil || n.Replicas == 0 {
				return d.Errf("replicas %q is not a number from 1 to 5", text)
			}
		default:
			return d.Errf("unknown option %q of the store nats; known are bucket, credentials, replicas", option)
		}
	}
	if err := n.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

var bucketName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// check checks what needs no placeholder.
func (n *NATS) check() error {
	if n.Bucket != "" && !bucketName.MatchString(n.Bucket) {
		return fmt.Errorf("bucket %q is not a name of 1 to 64 letters, digits, - and _", n.Bucket)
	}
	if n.Replicas < 0 || n.Replicas > 5 {
		return fmt.Errorf("replicas is %d, want a number from 1 to 5", n.Replicas)
	}
	if strings.Contains(n.URL, "{") {
		return nil
	}
	return checkURL(n.URL)
}

// checkURL checks a list of URLs. The error never contains one, because it may have a password.
func checkURL(list string) error {
	for text := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" && u.Scheme != "ws" && u.Scheme != "wss" {
			return errors.New("the url of a store nats is wrong; write for example nats://127.0.0.1:4222, or tls://host for TLS")
		}
	}
	return nil
}

// Provision implements caddy.Provisioner.
func (n *NATS) Provision(caddy.Context) error {
	if n.Replicas == 0 {
		n.Replicas = 1
	}
	repl := caddy.NewReplacer()
	var err error
	if n.url, err = repl.ReplaceOrErr(n.URL, true, true); err != nil {
		return fmt.Errorf("the url of a store nats: %w; it cannot depend on a request", err)
	}
	if n.credentials, err = repl.ReplaceOrErr(n.Credentials, true, true); err != nil {
		return fmt.Errorf("the credentials of a store nats: %w; they cannot depend on a request", err)
	}
	if n.credentials != "" {
		if n.credentials, err = filepath.Abs(n.credentials); err != nil {
			return err
		}
	}
	return errors.Join(n.check(), checkURL(n.url))
}

func (n *NATS) bucket(name string) string {
	if n.Bucket == "" {
		return "gojinn_" + name
	}
	return n.Bucket
}

// Key implements kv.Module. It is a hash, because the password is a part of what makes a store another one.
func (n *NATS) Key(name string) string {
	text := fmt.Sprintf("%q", []any{n.url, n.credentials, n.bucket(name), n.Replicas})
	return fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
}

// Open implements kv.Module. The server need not be there.
func (n *NATS) Open(name string) (kv.Store, error) {
	logger := caddy.Log().Named(kv.Namespace + ".nats").With(zap.String("store", name))
	options := []nats.Option{
		nats.Name("gojinn"),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		// What is sent while the server is away fails at once. It would be done later else, after its call has ended.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { logger.Warn("the connection to NATS is lost", zap.Error(err)) }),
		nats.ReconnectHandler(func(*nats.Conn) { logger.Info("the connection to NATS is back") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			logger.Debug("NATS reports an error", zap.Error(err))
		}),
	}
	if n.credentials != "" {
		options = append(options, nats.UserCredentials(n.credentials))
	}
	conn, err := nats.Connect(n.url, options...)
	if err != nil {
		return nil, fmt.Errorf("the store nats: %s", strings.ReplaceAll(err.Error(), n.url, "the url"))
	}
	return newStore(conn, n.bucket(name), n.Replicas)
}

// Interface guards
var (
	_ caddy.Provisioner     = (*NATS)(nil)
	_ caddyfile.Unmarshaler = (*NATS)(nil)
	_ kv.Module             = (*NATS)(nil)
)
