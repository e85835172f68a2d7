package gojinn

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
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
	return []caddy.AdminRoute{{Pattern: "/gojinn/functions", Handler: caddy.AdminHandlerFunc(listFunctions)}}
}

// listFunctions answers GET /gojinn/functions: the functions of the running config, by name.
func listFunctions(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		return caddy.APIError{
			HTTPStatus: http.StatusMethodNotAllowed,
			Err:        fmt.Errorf("method %s is not allowed, want GET", r.Method),
		}
	}
	list := []functionInfo{}
	functions.Range(func(_, value any) bool {
		if f, ok := value.(*sharedFunction); ok {
			info := f.info
			info.Active = f.active.Load()
			list = append(list, info)
		}
		return true
	})
	slices.SortFunc(list, func(a, b functionInfo) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Hash, b.Hash)
	})
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(list)
}

// Interface guards
var _ caddy.AdminRouter = (*adminAPI)(nil)
