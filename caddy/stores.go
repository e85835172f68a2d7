// This file has the key-value stores of a config, and those that are open in the process.

package gojinn

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"weak"

	"github.com/caddyserver/caddy/v2"

	"github.com/pauloappbr/gojinn/caddy/kv"

	// The stores that come with Gojinn.
	_ "github.com/pauloappbr/gojinn/caddy/kv/file"
	_ "github.com/pauloappbr/gojinn/caddy/kv/memory"
	_ "github.com/pauloappbr/gojinn/caddy/kv/nats"
	_ "github.com/pauloappbr/gojinn/caddy/kv/redis"
)

// defaultStoreModule is the module of stores that name none.
const defaultStoreModule = "file"

// StoreUse gives a function a store of the app.
type StoreUse struct {
	// Store is the store's name. Required.
	Store string `json:"store"`

	// Readonly lets the function read only. Default: false.
	Readonly bool `json:"readonly,omitempty"`
}

var storeName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func checkStoreName(name string) error {
	if storeName.MatchString(name) {
		return nil
	}
	return fmt.Errorf("kv %q is not the name of a store: want 1 to 64 letters, digits, - and _", name)
}

func checkStoreUses(uses []StoreUse) error {
	seen := map[string]bool{}
	for _, use := range uses {
		if err := checkStoreName(use.Store); err != nil {
			return err
		}
		if seen[use.Store] {
			return fmt.Errorf("kv %s is given twice", use.Store)
		}
		seen[use.Store] = true
	}
	return nil
}

// configStore is a store of one config. It is opened when the config starts, or by a request that is earlier.
type configStore struct {
	name string
	// module is the name of the module in its namespace.
	module   string
	settings kv.Module

	mu   sync.Mutex
	open *sharedStore
	// holds says that the config has a reference to the open store.
	holds bool
}

// provisionStores makes the stores of the app from their modules. None is opened.
func (a *App) provisionStores(ctx caddy.Context) error {
	a.stores = map[string]*configStore{}
	for _, name := range slices.Sorted(maps.Keys(a.StoresRaw)) {
		if err := checkStoreName(name); err != nil {
			return err
		}
		var about struct {
			Module string `json:"module"`
		}
		if err := json.Unmarshal(a.StoresRaw[name], &about); err != nil {
			return fmt.Errorf("kv %s: %w", name, err)
		}
		if about.Module == "" {
			return fmt.Errorf("kv %s names no module; write for example \"module\": %q", name, defaultStoreModule)
		}
		a.stores[name] = &configStore{name: name, module: about.Module}
	}
	if len(a.stores) == 0 {
		return nil
	}
	loaded, err := ctx.LoadModule(a, "StoresRaw")
	if err != nil {
		return fmt.Errorf("kv: %w", err)
	}
	for name, value := range loaded.(map[string]any) {
		settings, ok := value.(kv.Module)
		if !ok {
			return fmt.Errorf("kv %s: the module %s is no key-value store", name, a.stores[name].module)
		}
		a.stores[name].settings = settings
	}
	return nil
}

// store returns the store of that name, or the error that says how to have it.
func (a *App) store(name string) (*configStore, error) {
	if s, ok := a.stores[name]; ok {
		return s, nil
	}
	known := slices.Sorted(maps.Keys(a.stores))
	hint := didYouMean(name, known)
	if hint == "" {
		hint = fmt.Sprintf("; add `kv %s %s` to the global option gojinn", name, defaultStoreModule)
	}
	if len(known) > 0 {
		return nil, fmt.Errorf("there is no key-value store %q, there are: %s%s", name, strings.Join(known, ", "), hint)
	}
	return nil, fmt.Errorf("there is no key-value store %q%s", name, hint)
}

// openStores opens all stores, so that one that cannot be opened fails the start of the config.
func (a *App) openStores() error {
	for _, name := range slices.Sorted(maps.Keys(a.stores)) {
		if _, err := a.stores[name].get(); err != nil {
			return err
		}
	}
	return nil
}

// closeStores returns the config's references. Requests that are running go on to use the stores.
func (a *App) closeStores() error {
	var errs []error
	for _, s := range a.stores {
		errs = append(errs, s.release())
	}
	return errors.Join(errs...)
}

// get returns the open store.
func (s *configStore) get() (*sharedStore, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil {
		return s.open, nil
	}
	value, _, err := stores.LoadOrNew(s.key(), func() (caddy.Destructor, error) { return openStore(s.key(), s.name, s.settings) })
	if err != nil {
		return nil, fmt.Errorf("kv %s: %w", s.name, err)
	}
	s.open, s.holds = value.(*sharedStore), true
	if settings, ok := s.settings.(kv.Adjuster); ok {
		settings.Adjust(s.open.Store)
	}
	return s.open, nil
}

// release returns the config's reference. It may be called twice.
func (s *configStore) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.holds {
		return nil
	}
	s.holds = false
	_, err := stores.Delete(s.key())
	return err
}

func (s *configStore) key() storeKey { return storeKey{s.module, s.settings.Key(s.name)} }

// stores are those that a config refers to. As functions do, they outlive the config while a request can use them: the collector
// closes what nothing refers to.
var stores = caddy.NewUsagePool()

// storeKey tells stores apart.
type storeKey struct{ module, key string }

// sharedStore is an open store.
type sharedStore struct {
	kv.Store
}

// Destruct implements caddy.Destructor. It does nothing, because the collector closes the store.
func (*sharedStore) Destruct() error { return nil }

// openStoresLeft has the stores that are not collected yet, so that a config that comes back to one finds it: a file cannot be
// opened twice.
var openStoresLeft = struct {
	mu   sync.Mutex
	list map[storeKey]weak.Pointer[sharedStore]
}{list: map[storeKey]weak.Pointer[sharedStore]{}}

// openStore returns the store of a key that no config refers to.
func openStore(key storeKey, name string, settings kv.Module) (*sharedStore, error) {
	left := &openStoresLeft
	left.mu.Lock()
	defer left.mu.Unlock()
	if shared := left.list[key].Value(); shared != nil {
		return shared, nil
	}
	store, err := settings.Open(name)
	if err != nil {
		return nil, err
	}
	shared := &sharedStore{store}
	pointer := weak.Make(shared)
	left.list[key] = pointer
	runtime.AddCleanup(shared, func(store kv.Store) {
		_ = store.Close() // No request is left that could be told.
		left.mu.Lock()
		defer left.mu.Unlock()
		if left.list[key] == pointer {
			delete(left.list, key)
		}
	}, store)
	return shared, nil
}

// Interface guard
var _ caddy.Destructor = (*sharedStore)(nil)
