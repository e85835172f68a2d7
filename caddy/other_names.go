// This file finds the names of placeholders that are not Caddy's: those that a config chooses, and those of plugins.

package gojinn

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	maphandler "github.com/caddyserver/caddy/v2/modules/caddyhttp/map"
)

// otherNames are the names of placeholders that requests can have besides those of Caddy's server.
type otherNames struct {
	// chosen reports whether the config gives a name to a placeholder.
	chosen func(name string) bool
	// plugins reports whether a plugin can set a placeholder of that name.
	plugins func(name string) bool
}

// newOtherNames returns the names that are possible in the server that ctx provisions. Without a server, every name that looks
// like one is possible.
func newOtherNames(ctx context.Context) *otherNames {
	n := &otherNames{chosen: isIdentifier, plugins: isDotted}
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server != nil {
		names := sync.OnceValue(func() map[string]bool { return chosenNames(server) })
		n.chosen = func(name string) bool { return names()[name] }
		n.plugins = func(name string) bool { return isDotted(name) && hasPlugins() }
	}
	return n
}

// hasPlugins reports whether this Caddy has handlers or matchers that are neither Caddy's nor ours. Names with dots are theirs
// then, because all of Caddy's own begin with http. or are known without a request.
var hasPlugins = sync.OnceValue(func() bool {
	for _, id := range caddy.Modules() {
		if strings.HasPrefix(id, "http.") && isPlugin(packageOf(id)) {
			return true
		}
	}
	return false
})

// packageOf returns the path of the package of a registered module.
func packageOf(id string) string {
	info, err := caddy.GetModule(id)
	if err != nil {
		return ""
	}
	module := reflect.TypeOf(info.New())
	for module.Kind() == reflect.Pointer {
		module = module.Elem()
	}
	return module.PkgPath()
}

// isPlugin reports whether a package is neither Caddy's nor ours.
func isPlugin(path string) bool {
	return !strings.HasPrefix(path, "github.com/caddyserver/caddy/v2/") && path != reflect.TypeFor[Handler]().PkgPath()
}

// chosenNames returns the names that the `map` handlers of a server give to placeholders. Caddy lets a config choose no other
// names without a prefix.
//
// It may be called while the server is being provisioned: it inspects the handlers that are loaded, and the JSON of the others.
func chosenNames(server *caddyhttp.Server) map[string]bool {
	names := nameCollector{}
	names.routes(server.Routes)
	if server.Errors != nil {
		names.routes(server.Errors.Routes)
	}
	for _, route := range server.NamedRoutes {
		names.routes(caddyhttp.RouteList{*route})
	}
	return names
}

type nameCollector map[string]bool

func (c nameCollector) routes(routes caddyhttp.RouteList) {
	for i := range routes {
		for _, raw := range routes[i].HandlersRaw {
			c.json(raw)
		}
		for _, handler := range routes[i].Handlers {
			c.loaded(reflect.ValueOf(handler))
		}
	}
}

func (c nameCollector) add(destination string) {
	c[strings.TrimSuffix(strings.TrimPrefix(destination, "{"), "}")] = true
}

// json finds handlers that are not loaded yet. Invalid JSON is refused later, when it is loaded.
func (c nameCollector) json(text json.RawMessage) {
	var object struct {
		Handler      string
		Destinations []string
	}
	if json.Unmarshal(text, &object) == nil && object.Handler == "map" {
		for _, destination := range object.Destinations {
			c.add(destination)
		}
		return
	}
	var members map[string]json.RawMessage
	var elements []json.RawMessage
	if json.Unmarshal(text, &members) == nil {
		for _, member := range members {
			c.json(member)
		}
	} else if json.Unmarshal(text, &elements) == nil {
		for _, element := range elements {
			c.json(element)
		}
	}
}

// loaded inspects only those fields of a handler that can hold routes, because others may be in use already.
func (c nameCollector) loaded(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return
		}
		if handler, ok := v.Interface().(*maphandler.Handler); ok {
			for _, destination := range handler.Destinations {
				c.add(destination)
			}
			return
		}
		c.loaded(v.Elem())
	case reflect.Slice, reflect.Array:
		switch elements := v.Interface().(type) {
		case json.RawMessage:
			c.json(elements)
			return
		case caddyhttp.RouteList:
			c.routes(elements)
			return
		}
		for i := range v.Len() {
			c.loaded(v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			c.loaded(v.MapIndex(key))
		}
	case reflect.Struct:
		for field, value := range v.Fields() {
			if field.IsExported() && holdsRoutes(field.Type, nil) {
				c.loaded(value)
			}
		}
	}
}

var (
	routeListType = reflect.TypeFor[caddyhttp.RouteList]()
	rawType       = reflect.TypeFor[json.RawMessage]()
)

// holdsRoutes reports whether values of a type can hold routes, loaded or not. within are the structs that contain the type.
func holdsRoutes(t reflect.Type, within []reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice:
		return t == routeListType || t == rawType || holdsRoutes(t.Elem(), within)
	case reflect.Pointer, reflect.Array, reflect.Map:
		return holdsRoutes(t.Elem(), within)
	case reflect.Struct:
		for _, outer := range within {
			if outer == t {
				return false
			}
		}
		within = append(within, t)
		for i := range t.NumField() {
			if field := t.Field(i); field.IsExported() && holdsRoutes(field.Type, within) {
				return true
			}
		}
	}
	return false
}
