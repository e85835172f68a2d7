// This file reads the lines of the Caddyfile about what functions reach: outbound, kv and secret.

package gojinn

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/pauloappbr/gojinn/caddy/kv"
)

// outboundOptions lists the subdirectives of outbound.
var outboundOptions = []string{"allow", "allow_private", "max_requests", "max_response", "timeout", "tls_trust_pool"}

// parseOutbound reads
//
//	outbound {
//		allow          <origin>...
//		allow_private  <address or range>...
//		max_requests   <number>
//		max_response   <size>
//		timeout        <duration>
//		tls_trust_pool <module> ...
//	}
//
// allow and allow_private may be repeated.
func parseOutbound(h *Handler, d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("outbound takes a block and no argument; write `allow %s` into the block", d.Val())
	}
	o := new(Outbound)
	seen := seenLines{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if option != "allow" && option != "allow_private" {
			if err := seen.once(d, option); err != nil {
				return err
			}
		}
		if err := o.parseOption(d, option); err != nil {
			return err
		}
	}
	if len(o.Allow) == 0 {
		return d.Err("outbound allows nothing; write for example `allow https://api.example.com` into its block")
	}
	h.Outbound = o
	return nil
}

func (o *Outbound) parseOption(d *caddyfile.Dispenser, option string) (err error) {
	switch option {
	case "allow", "allow_private":
		args := d.RemainingArgs()
		if len(args) == 0 {
			return d.ArgErr()
		}
		list, check := &o.Allow, checkAllow
		if option == "allow_private" {
			list, check = &o.AllowPrivate, checkAllowPrivate
		}
		for _, arg := range args {
			if err := check(arg); err != nil {
				return d.WrapErr(err)
			}
		}
		*list = append(*list, args...)
		return nil
	case "tls_trust_pool":
		return o.parseTrustPool(d)
	case "max_requests", "max_response", "timeout":
	default:
		return d.Errf("unknown option %q of outbound%s; known are %s", option, didYouMean(option, outboundOptions), strings.Join(outboundOptions, ", "))
	}
	text, err := oneArg(d, option)
	if err != nil {
		return err
	}
	switch option {
	case "max_requests":
		o.MaxRequests, err = strconv.Atoi(text)
		if err != nil || o.MaxRequests < 1 || o.MaxRequests > maxMaxRequests {
			return d.Errf("max_requests %q is not a number from 1 to %d", text, maxMaxRequests)
		}
	case "max_response":
		o.MaxResponse, err = parseSize(option, text)
	case "timeout":
		o.Timeout, err = parseDuration(option, text)
	}
	if err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (o *Outbound) parseTrustPool(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Err("tls_trust_pool takes a module, as in `tls_trust_pool file ./ca.pem`")
	}
	name := d.Val()
	value, err := caddyfile.UnmarshalModule(d, "tls.ca_pool.source."+name)
	if err != nil {
		return err
	}
	pool, ok := value.(caddytls.CA)
	if !ok {
		return d.Errf("the module %s is no source of certificates", name)
	}
	o.TrustPoolRaw = caddyconfig.JSONModuleObject(pool, "provider", name, nil)
	return nil
}

// parseStoreUse reads
//
//	kv <name> [readonly]
func parseStoreUse(h *Handler, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 || len(args) == 2 && args[1] != "readonly" {
		return d.Err("kv takes the name of a store and optionally readonly, as in `kv sessions`; " +
			"where the store is says the global option gojinn, as in `kv sessions redis redis://127.0.0.1:6379/0`")
	}
	h.Stores = append(h.Stores, StoreUse{Store: args[0], Readonly: len(args) == 2})
	if err := checkStoreUses(h.Stores); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// parseSecret reads
//
//	secret <name> <placeholder>
func parseSecret(h *Handler, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Errf("secret takes a name and a placeholder, as in `secret API_KEY {file./run/secrets/api_key}`, and got %d arguments", len(args))
	}
	if _, ok := h.Secrets[args[0]]; ok {
		return d.Errf("secret %s is given twice", args[0])
	}
	if err := checkSecret(args[0], args[1]); err != nil {
		return d.WrapErr(err)
	}
	if h.Secrets == nil {
		h.Secrets = map[string]string{}
	}
	h.Secrets[args[0]] = args[1]
	return nil
}

// parseStore reads, in the global option,
//
//	kv <name> [<module> ...]
func (a *App) parseStore(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Err("kv takes a name and a module, as in `kv sessions file ./data/sessions.db`")
	}
	name := d.Val()
	if err := checkStoreName(name); err != nil {
		return d.WrapErr(err)
	}
	if _, ok := a.StoresRaw[name]; ok {
		return d.Errf("kv %s is given twice", name)
	}
	module := defaultStoreModule
	if d.NextArg() {
		module = d.Val()
	}
	id := kv.Namespace + "." + module
	if _, err := caddy.GetModule(id); err != nil {
		known := storeModules()
		return d.Errf("kv %s: there is no module %q%s; known are %s", name, module, didYouMean(module, known), strings.Join(known, ", "))
	}
	value, err := caddyfile.UnmarshalModule(d, id)
	if err != nil {
		return err
	}
	settings, ok := value.(kv.Module)
	if !ok {
		return d.Errf("kv %s: the module %s is no key-value store", name, module)
	}
	if a.StoresRaw == nil {
		a.StoresRaw = map[string]json.RawMessage{}
	}
	a.StoresRaw[name] = caddyconfig.JSONModuleObject(settings, "module", module, nil)
	return nil
}

// storeModules returns the names of the modules for stores.
func storeModules() (names []string) {
	for _, info := range caddy.GetModules(kv.Namespace) {
		names = append(names, info.ID.Name())
	}
	return names
}
