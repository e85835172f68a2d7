// Pooled is a Caddy with two more handlers. One runs guests of http-wasm as Traefik does: on http-wasm-host-go and wazero, with
// instances that are kept in a pool and used again for the next request, as they are. The other runs functions on wazero in an
// instance for each request.
//
//	http_wasm_pooled * router.wasm
//	wazero_instances * hello.wasm
package main

import (
	"net/http"
	"os"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	wasm "github.com/http-wasm/http-wasm-host-go/handler/nethttp"
)

func main() {
	caddy.RegisterModule(&pooled{})
	httpcaddyfile.RegisterHandlerDirective("http_wasm_pooled", parse)
	httpcaddyfile.RegisterDirectiveOrder("http_wasm_pooled", httpcaddyfile.Before, "reverse_proxy")
	caddy.RegisterModule(&instances{})
	httpcaddyfile.RegisterHandlerDirective("wazero_instances", parseInstances)
	httpcaddyfile.RegisterDirectiveOrder("wazero_instances", httpcaddyfile.Before, "reverse_proxy")
	caddycmd.Main()
}

// pooled is the handler.
type pooled struct {
	// Module is the file of the guest.
	Module string `json:"module"`

	guest wasm.Middleware
}

func parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	p := &pooled{}
	h.Next()
	if !h.AllArgs(&p.Module) {
		return nil, h.ArgErr()
	}
	return p, nil
}

// CaddyModule implements caddy.Module.
func (*pooled) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.http_wasm_pooled", New: func() caddy.Module { return new(pooled) }}
}

// Provision implements caddy.Provisioner.
func (p *pooled) Provision(ctx caddy.Context) error {
	code, err := os.ReadFile(p.Module)
	if err != nil {
		return err
	}
	p.guest, err = wasm.NewMiddleware(ctx, code)
	return err
}

// Cleanup implements caddy.CleanerUpper.
func (p *pooled) Cleanup() error {
	if p.guest == nil {
		return nil
	}
	return p.guest.Close(caddy.ActiveContext())
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (p *pooled) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (err error) {
	p.guest.NewHandler(r.Context(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err = next.ServeHTTP(w, r)
	})).ServeHTTP(w, r)
	return err
}
