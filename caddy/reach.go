// This file has what a function may reach besides its request: servers, stores and secrets, as the Caddyfile gives them.

package gojinn

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/caddyserver/caddy/v2"
)

// provisionReach prepares what the function may reach.
func (h *Handler) provisionReach(ctx caddy.Context, app *App, repl *caddy.Replacer) error {
	if h.Outbound != nil {
		if err := h.Outbound.provision(ctx); err != nil {
			return fmt.Errorf("outbound: %w", err)
		}
	}
	h.stores = map[string]functionStore{}
	for _, use := range h.Stores {
		store, err := app.store(use.Store)
		if err != nil {
			return err
		}
		h.stores[use.Store] = functionStore{configStore: store, readonly: use.Readonly}
	}
	return h.provisionSecrets(repl)
}

// reach names what a function may reach, for the admin API. It has no value of a secret, and no address of a store.
type reach struct {
	Outbound []string     `json:"outbound,omitempty"`
	Private  []string     `json:"outbound_private,omitempty"`
	Stores   []storeReach `json:"kv,omitempty"`
	Secrets  []string     `json:"secrets,omitempty"`
}

type storeReach struct {
	Store    string `json:"store"`
	Module   string `json:"module"`
	Readonly bool   `json:"readonly,omitempty"`
}

func (h *Handler) reach() (r reach) {
	if o := h.Outbound; o != nil {
		for _, pattern := range o.patterns {
			r.Outbound = append(r.Outbound, pattern.String())
		}
		r.Private = o.AllowPrivate
	}
	for _, use := range h.Stores {
		r.Stores = append(r.Stores, storeReach{use.Store, h.stores[use.Store].module, use.Readonly})
	}
	r.Secrets = slices.Sorted(maps.Keys(h.Secrets))
	return r
}

// listedFunction is a function in the answer of GET /gojinn/functions, with what one or more handlers give to it.
type listedFunction struct {
	functionInfo
	reach
}

// reachOf returns what the handlers of the running config give to a function, each once.
func reachOf(f *sharedFunction) (list []reach) {
	for _, d := range started.deployments() {
		if d.function.Load() != f {
			continue
		}
		if !slices.ContainsFunc(list, func(r reach) bool { return reflect.DeepEqual(r, d.reach) }) {
			list = append(list, d.reach)
		}
	}
	return list
}
