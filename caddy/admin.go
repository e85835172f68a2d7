package gojinn

import (
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

// adminAPI is the admin endpoint's view of the functions. It reads package-level state: Caddy tells admin routers nothing
// about the config they live in.
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
		{Pattern: "/gojinn/cache/purge", Handler: caddy.AdminHandlerFunc(purgeCache)},
	}
}

// listFunctions answers GET /gojinn/functions: the functions of the running config, by name.
func listFunctions(w http.ResponseWriter, r *http.Request) error {
	if err := wantMethod(w, r, http.MethodGet); err != nil {
		return err
	}
	list := []functionInfo{}
	seen := map[*sharedFunction]bool{}
	for _, d := range started.deployments() {
		f := d.function.Load()
		if seen[f] {
			continue
		}
		seen[f] = true
		info := f.info
		info.Active = f.active.Load()
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b functionInfo) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Hash, b.Hash)
	})
	return writeJSON(w, list)
}

// reloadFunction answers POST /gojinn/functions/{name}/reload: it replaces the function if its module's file has changed, and
// says what came of it once it serves.
func reloadFunction(w http.ResponseWriter, r *http.Request) error {
	if err := wantMethod(w, r, http.MethodPost); err != nil {
		return err
	}
	name := r.PathValue("name")
	found := slices.DeleteFunc(started.deployments(), func(d *deployment) bool { return d.config.Name != name })
	if len(found) == 0 {
		return caddy.APIError{
			HTTPStatus: http.StatusNotFound,
			Err:        fmt.Errorf("there is no function %q; GET /gojinn/functions lists those there are", name),
		}
	}
	for _, d := range found[1:] {
		if d.module != found[0].module {
			return caddy.APIError{
				HTTPStatus: http.StatusConflict,
				Err:        fmt.Errorf("%s and %s are both named %q; give each a name of its own", found[0].module, d.module, name),
			}
		}
	}
	var done *reloaded
	for _, d := range found {
		one, err := d.reload()
		switch {
		case errors.Is(err, errReplaced):
			return caddy.APIError{HTTPStatus: http.StatusConflict, Err: fmt.Errorf("function %s: %w; ask again", name, err)}
		case err != nil:
			return caddy.APIError{
				HTTPStatus: http.StatusUnprocessableEntity,
				Err:        fmt.Errorf("function %s (%s): %w; the function before serves on", name, d.module, err),
			}
		case done == nil:
			done = one
		default:
			// The same file under another handler.
			done.Changed = done.Changed || one.Changed
			done.Duration += one.Duration
		}
	}
	return writeJSON(w, done)
}

// purgeCache answers POST /gojinn/cache/purge: it removes all compiled code from the disk, and says how much that was.
func purgeCache(w http.ResponseWriter, r *http.Request) error {
	if err := wantMethod(w, r, http.MethodPost); err != nil {
		return err
	}
	e := started.engine()
	if e == nil {
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: errors.New("the running config has no function, so no cache is open")}
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

func wantMethod(w http.ResponseWriter, r *http.Request, method string) error {
	if r.Method == method {
		return nil
	}
	w.Header().Set("Allow", method)
	return caddy.APIError{
		HTTPStatus: http.StatusMethodNotAllowed,
		Err:        fmt.Errorf("method %s is not allowed, want %s", r.Method, method),
	}
}

func writeJSON(w http.ResponseWriter, value any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(value)
}

// Interface guards
var _ caddy.AdminRouter = (*adminAPI)(nil)
