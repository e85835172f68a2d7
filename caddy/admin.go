// This file has the routes of the admin endpoint: list functions and warnings, reload a function, empty the cache.

package gojinn

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI serves the admin routes. It reads package-level state, because Caddy tells admin routers nothing about the config
// that they belong to.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.gojinn",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Routes implements caddy.AdminRouter.
func (adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/gojinn/functions", Handler: caddy.AdminHandlerFunc(listFunctions)},
		{Pattern: "/gojinn/functions/{name}/reload", Handler: caddy.AdminHandlerFunc(reloadFunction)},
		{Pattern: "/gojinn/warnings", Handler: caddy.AdminHandlerFunc(listWarnings)},
		{Pattern: "/gojinn/cache/purge", Handler: caddy.AdminHandlerFunc(purgeCache)},
	}
}

// listFunctions answers GET /gojinn/functions: the functions of the running config, by name.
func listFunctions(w http.ResponseWriter, r *http.Request) error {
	if err := wantMethod(w, r, http.MethodGet); err != nil {
		return err
	}
	list := []listedFunction{}
	for _, f := range runningFunctions() {
		// Handlers may share a function, and give it different things.
		for _, given := range reachOf(f) {
			info := listedFunction{functionInfo: f.info, reach: given}
			info.Active = f.active.Load()
			list = append(list, info)
		}
	}
	return writeJSON(w, list)
}

// listWarnings answers GET /gojinn/warnings: the engine's warnings, and then those of each function of the running config.
func listWarnings(w http.ResponseWriter, r *http.Request) error {
	if err := wantMethod(w, r, http.MethodGet); err != nil {
		return err
	}
	list := []warning{}
	if e := started.engine(); e != nil {
		for _, text := range e.warnings() {
			list = append(list, warning{Warning: text})
		}
	}
	for _, f := range runningFunctions() {
		for _, text := range f.info.Warnings {
			list = append(list, warning{Function: f.info.Name, Module: f.info.Module, Warning: text})
		}
	}
	return writeJSON(w, list)
}

// reloadFunction answers POST /gojinn/functions/{name}/reload: it replaces the function if its files have changed, and answers
// once the new one serves.
func reloadFunction(w http.ResponseWriter, r *http.Request) error {
	if err := wantMethod(w, r, http.MethodPost); err != nil {
		return err
	}
	name := r.PathValue("name")
	found := slices.DeleteFunc(started.deployments(), func(d *deployment) bool { return d.config.Name != name })
	if len(found) == 0 {
		return caddy.APIError{
			HTTPStatus: http.StatusNotFound,
			Err:        fmt.Errorf("there is no function %q; GET /gojinn/functions lists all functions", name),
		}
	}
	for _, d := range found[1:] {
		if d.module != found[0].module {
			return caddy.APIError{
				HTTPStatus: http.StatusConflict,
				Err:        fmt.Errorf("%s and %s are both named %q; give them different names", found[0].module, d.module, name),
			}
		}
	}
	var done *reloaded
	for _, d := range found {
		one, err := d.reload()
		switch {
		case errors.Is(err, errReplaced):
			return caddy.APIError{HTTPStatus: http.StatusConflict, Err: fmt.Errorf("function %s: %w; send the request again", name, err)}
		case err != nil:
			return caddy.APIError{
				HTTPStatus: http.StatusUnprocessableEntity,
				Err:        fmt.Errorf("function %s (%s): %w; the old function continues to serve", name, d.module, err),
			}
		case done == nil:
			done = one
		default:
			// Another handler with the same file: the answer is about both.
			done.Changed = done.Changed || one.Changed
			done.Duration += one.Duration
		}
	}
	return writeJSON(w, done)
}

// purgeCache answers POST /gojinn/cache/purge: it removes all compiled code from the disk and answers how much that was.
func purgeCache(w http.ResponseWriter, r *http.Request) error {
	if err := wantMethod(w, r, http.MethodPost); err != nil {
		return err
	}
	e := started.engine()
	if e == nil {
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: errors.New("the running config has no function, so no cache is in use")}
	}
	purged, err := e.PurgeCache()
	switch failed := (*engine.Error)(nil); {
	case errors.As(err, &failed) && failed.Code == engine.CodeBadConfig:
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
	case err != nil:
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: err}
	}
	return writeJSON(w, purged)
}

// runningFunctions returns the functions of the running config, each once, sorted by name.
func runningFunctions() []*sharedFunction {
	var list []*sharedFunction
	for _, d := range started.deployments() {
		if f := d.function.Load(); !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *sharedFunction) int {
		return cmp.Or(strings.Compare(a.info.Name, b.info.Name), strings.Compare(a.info.Hash, b.info.Hash))
	})
	return list
}

func wantMethod(w http.ResponseWriter, r *http.Request, method string) error {
	if r.Method == method {
		return nil
	}
	w.Header().Set("Allow", method)
	return caddy.APIError{
		HTTPStatus: http.StatusMethodNotAllowed,
		Err:        fmt.Errorf("method %s is not allowed here; use %s", r.Method, method),
	}
}

func writeJSON(w http.ResponseWriter, value any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(value)
}

// Interface guards
var _ caddy.AdminRouter = (*adminAPI)(nil)
