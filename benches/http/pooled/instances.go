package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// instances is a handler that runs a function as Gojinn's predecessor did: on wazero, compiled once, with an instance for each
// request, which ends when its client goes away. The function gets and gives the JSON of docs/contract.md.
type instances struct {
	// Module is the file of the function.
	Module string `json:"module"`

	runtime  wazero.Runtime
	compiled wazero.CompiledModule
}

func parseInstances(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	i := &instances{}
	h.Next()
	if !h.AllArgs(&i.Module) {
		return nil, h.ArgErr()
	}
	return i, nil
}

// CaddyModule implements caddy.Module.
func (*instances) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.wazero_instances", New: func() caddy.Module { return new(instances) }}
}

// Provision implements caddy.Provisioner.
func (i *instances) Provision(ctx caddy.Context) error {
	code, err := os.ReadFile(i.Module)
	if err != nil {
		return err
	}
	i.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCloseOnContextDone(true))
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, i.runtime); err != nil {
		return err
	}
	i.compiled, err = i.runtime.CompileModule(ctx, code)
	return err
}

// Cleanup implements caddy.CleanerUpper.
func (i *instances) Cleanup() error {
	if i.runtime == nil {
		return nil
	}
	return i.runtime.Close(caddy.ActiveContext())
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (i *instances) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	request, err := json.Marshal(map[string]any{
		"method": r.Method, "uri": r.RequestURI, "headers": r.Header, "body": string(body), "trace_id": r.Header.Get("X-Request-Id"),
	})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	config := wazero.NewModuleConfig().WithName("").WithArgs("function").WithStdin(bytes.NewReader(request)).WithStdout(&out).
		WithSysWalltime().WithSysNanotime().WithRandSource(rand.Reader)
	instance, err := i.runtime.InstantiateModule(r.Context(), i.compiled, config)
	if exit := (*sys.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 0 {
		err = nil
	}
	if err != nil {
		return err
	}
	if instance != nil {
		if err := instance.Close(r.Context()); err != nil {
			return err
		}
	}
	var answer struct {
		Status  int         `json:"status"`
		Headers http.Header `json:"headers"`
		Body    string      `json:"body"`
	}
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return fmt.Errorf("the answer %q is no response: %w", out.Bytes(), err)
	}
	for name, values := range answer.Headers {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Status)
	_, err = io.WriteString(w, answer.Body)
	return err
}
