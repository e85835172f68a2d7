// Package redis is the key-value store `redis`: a Redis server, or one that speaks its protocol, which several Caddys share.
package redis

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/redis/go-redis/v9"

	"github.com/pauloappbr/gojinn/caddy/kv"
)

func init() {
	caddy.RegisterModule(new(Redis))
	redis.SetLogger(logger{})
}

// logger makes the client log where Caddy does, and not to stderr. What it says is about connections that operations report anyway.
type logger struct{}

// Printf implements the client's interface.
func (logger) Printf(_ context.Context, format string, v ...any) {
	caddy.Log().Named(kv.Namespace + ".redis").Debug(fmt.Sprintf(format, v...))
}

// Redis keeps values on a Redis server. Values are plain strings, so that other programs can use them.
type Redis struct {
	// URL names the server: `redis://[user:password@]host[:port][/database]`, `rediss://` for TLS, or `unix:///path`.
	// Placeholders that do not depend on a request may be used, so that the password is not in the config. Required.
	URL string `json:"url,omitempty"`

	// Prefix is put before each key. Default: the store's name and a colon.
	Prefix *string `json:"prefix,omitempty"`

	options *redis.Options
}

// CaddyModule returns the Caddy module information.
func (*Redis) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: kv.Namespace + ".redis", New: func() caddy.Module { return new(Redis) }}
}

// UnmarshalCaddyfile reads
//
//	redis <url> {
//		prefix <text>
//	}
func (r *Redis) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.NextArg() || d.Val() == "" {
		return d.Err("the store redis needs the server's URL, as in `redis redis://127.0.0.1:6379/0`")
	}
	r.URL = d.Val()
	if d.NextArg() {
		return d.ArgErr()
	}
	if !strings.Contains(r.URL, "{") {
		if _, err := parseURL(r.URL); err != nil {
			return d.WrapErr(err)
		}
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "prefix" {
			return d.Errf("unknown option %q of the store redis; known is prefix", d.Val())
		}
		var text string
		if !d.AllArgs(&text) {
			return d.ArgErr()
		}
		if r.Prefix != nil {
			return d.Err("prefix is given twice")
		}
		r.Prefix = &text
	}
	return nil
}

// Provision implements caddy.Provisioner.
func (r *Redis) Provision(caddy.Context) error {
	repl := caddy.NewReplacer()
	text, err := repl.ReplaceOrErr(r.URL, true, true)
	if err != nil {
		return fmt.Errorf("the url of a store redis: %w; it cannot depend on a request", err)
	}
	if r.options, err = parseURL(text); err != nil {
		return err
	}
	if r.Prefix != nil {
		prefix, err := repl.ReplaceOrErr(*r.Prefix, true, true)
		if err != nil {
			return fmt.Errorf("the prefix of a store redis: %w; it cannot depend on a request", err)
		}
		r.Prefix = &prefix
	}
	return nil
}

// parseURL returns the options of a client. The error never contains the URL, which may have a password.
func parseURL(text string) (*redis.Options, error) {
	options, err := redis.ParseURL(text)
	if err != nil {
		if inner := (*url.Error)(nil); errors.As(err, &inner) {
			err = inner.Err
		}
		reason := strings.ReplaceAll(err.Error(), text, "the url")
		return nil, fmt.Errorf("the url of a store redis is wrong: %s; write for example redis://127.0.0.1:6379/0", reason)
	}
	// An operation that is sent again may be done twice, and then a number is wrong.
	options.MaxRetries = -1
	options.ContextTimeoutEnabled = true
	options.ClientName = "gojinn"
	return options, nil
}

// Key implements kv.Module. It is a hash, because the password is a part of what makes a store another one.
func (r *Redis) Key(name string) string {
	o := r.options
	text := fmt.Sprintf("%q", []any{o.Network, o.Addr, o.Username, o.Password, o.DB, o.TLSConfig != nil, r.prefix(name), r.URL})
	return fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
}

func (r *Redis) prefix(name string) string {
	if r.Prefix == nil {
		return name + ":"
	}
	return *r.Prefix
}

// Open implements kv.Module. It connects to nothing.
func (r *Redis) Open(name string) (kv.Store, error) {
	options := *r.options
	return &store{client: redis.NewClient(&options), prefix: r.prefix(name)}, nil
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Redis)(nil)
	_ caddyfile.Unmarshaler = (*Redis)(nil)
	_ kv.Module             = (*Redis)(nil)
)
