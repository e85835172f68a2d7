// Tests of the operations kv.* and of the stores of configs.

package gojinn

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/pauloappbr/gojinn/caddy/kv"
)

func TestStoreOperations(t *testing.T) {
	g := newTestGuest(t, &Handler{Stores: []StoreUse{{Store: "s"}, {Store: "cache", Readonly: true}}})
	for _, step := range []struct {
		operation, request string
		code               int32
		want               string
	}{
		{"kv.get", `{"store":"s","key":"k"}`, codeNotFound, "no such key"},
		{"kv.set", `{"store":"s","key":"k"}` + "\n\x00raw\n", 0, "map[] "},
		{"kv.get", `{"store":"s","key":"k"}`, 0, "map[] \x00raw\n"},
		{"kv.set", `{"store":"s","key":"empty"}`, 0, "map[] "},
		{"kv.get", `{"store":"s","key":"empty"}`, 0, "map[] "},
		{"kv.exists", `{"store":"s","key":"empty"}`, 0, "map[exists:true] "},
		{"kv.exists", `{"store":"s","key":"none"}`, 0, "map[exists:false] "},
		{"kv.list", `{"store":"s"}`, 0, "map[keys:[empty k]] "},
		{"kv.list", `{"store":"s","limit":1}`, 0, "map[cursor:empty keys:[empty]] "},
		{"kv.list", `{"store":"s","limit":1,"cursor":"empty"}`, 0, "map[keys:[k]] "},
		{"kv.list", `{"store":"s","prefix":"x"}`, 0, "map[keys:[]] "},
		{"kv.delete", `{"store":"s","key":"empty"}`, 0, "map[] "},
		{"kv.delete", `{"store":"s","key":"empty"}`, 0, "map[] "},
		{"kv.increment", `{"store":"s","key":"n"}`, 0, "map[value:1] "},
		{"kv.increment", `{"store":"s","key":"n","delta":-5,"ttl_ms":1000}`, 0, "map[value:-4] "},
		{"kv.increment", `{"store":"s","key":"k"}`, codeFailed, "not a decimal number"},
		{"kv.increment", `{"store":"s","key":"n","delta":-9223372036854775808}`, codeFailed, "not a number of 64 bits"},
		{"kv.increment", `{"store":"s","key":"n","delta":1.5}`, codeBadRequest, "delta"},
		{"kv.increment", `{"store":"s","key":"n","delta":9223372036854775808}`, codeBadRequest, "delta"},
		{"kv.compare_and_swap", `{"store":"s","key":"c","expect":null}` + "\none", 0, "map[swapped:true] "},
		{"kv.compare_and_swap", `{"store":"s","key":"c","expect":null}` + "\ntwo", 0, "map[swapped:false] "},
		{"kv.compare_and_swap", `{"store":"s","key":"c","expect":3}` + "\nonetwo", 0, "map[swapped:true] "},
		{"kv.compare_and_swap", `{"store":"s","key":"c","expect":3}` + "\ntwo", 0, "map[swapped:true] "},
		{"kv.compare_and_swap", `{"store":"s","key":"c","expect":0}` + "\nx\ny", 0, "map[swapped:true] "},
		{"kv.get", `{"store":"s","key":"c"}`, 0, "map[] x\ny"},
		{"kv.compare_and_swap", `{"store":"s","key":"c"}` + "\nx", codeBadRequest, "there is no expect"},
		{"kv.compare_and_swap", `{"store":"s","key":"c","expect":4}` + "\nx\ny", codeBadRequest, "expect is 4"},
		{"kv.compare_and_swap", `{"store":"s","key":"c","expect":-1}` + "\nx\ny", codeBadRequest, "expect is -1"},
		{"kv.compare_and_swap", `{"store":"s","key":"c","expect":"x"}` + "\nx\ny", codeBadRequest, "expect is"},

		{"kv.get", `{"store":"s"}`, codeBadRequest, "there is no key"},
		{"kv.get", `{"key":"k"}`, codeBadRequest, `store is ""`},
		{"kv.get", `{"store":"S s","key":"k"}`, codeBadRequest, "want the name of a store"},
		{"kv.get", `{"store":"s","key":"k","ttl_ms":1}`, codeBadRequest, `"ttl_ms" of the request is unknown`},
		{"kv.get", `{"store":"s","key":"a\nb"}`, codeBadRequest, "control character"},
		{"kv.get", `{"store":"s","key":"a\u0085b"}`, codeBadRequest, "control character"},
		{"kv.get", `{"store":"s","key":"` + strings.Repeat("ü", 256) + `"}`, codeNotFound, ""},
		{"kv.get", `{"store":"s","key":"` + strings.Repeat("ü", 256) + `x"}`, codeTooLarge, "513 bytes"},
		{"kv.get", `{"store":"s","key":"half \ud83d"}`, codeBadRequest, "surrogate"},
		{"kv.get", `{"store":"s","key":"a\u0000b"}`, codeBadRequest, "control character"},
		{"kv.set", `{"store":"s","key":"../a//b/"}` + "\nx", 0, ""},
		{"kv.list", `{"store":"s","prefix":"../a/"}`, 0, "map[keys:[../a//b/]] "},
		{"kv.set", `{"store":"s","key":"k","ttl_ms":0}`, codeBadRequest, "ttl_ms is 0"},
		{"kv.set", `{"store":"s","key":"k","ttl_ms":null}` + "\nx", 0, ""},
		{"kv.set", `{"store":"s","key":"k","ttl_ms":0.5}`, codeBadRequest, "ttl_ms"},
		{"kv.set", `{"store":"s","key":"k","ttl_ms":"5"}`, codeBadRequest, "ttl_ms"},
		{"kv.increment", `{"store":"s","key":"n","ttl_ms":0}`, codeBadRequest, "ttl_ms is 0"},
		{"kv.compare_and_swap", `{"store":"s","key":"c","expect":null,"ttl_ms":0}`, codeBadRequest, "ttl_ms is 0"},
		{"kv.set", `{"store":"s","key":"k","ttl_ms":-1}`, codeBadRequest, "ttl_ms is -1"},
		{"kv.set", `{"store":"s","key":"k","ttl_ms":31536000001}`, codeBadRequest, "ttl_ms is"},
		{"kv.set", `{"store":"s","key":"big"}` + "\n" + strings.Repeat("x", kv.MaxValue), 0, ""},
		{"kv.set", `{"store":"s","key":"big"}` + "\n" + strings.Repeat("x", kv.MaxValue+1), codeTooLarge, "1000001 bytes"},
		{"kv.compare_and_swap", `{"store":"s","key":"big","expect":1}` + "\n" + strings.Repeat("x", kv.MaxValue+2), codeTooLarge, "1000001 bytes"},
		{"kv.list", `{"store":"s","limit":0}`, codeBadRequest, "limit is 0"},
		{"kv.list", `{"store":"s","limit":1001}`, codeBadRequest, "limit is 1001"},
		{"kv.list", `{"store":"s","prefix":"` + strings.Repeat("x", 513) + `"}`, codeTooLarge, "the prefix"},

		{"kv.get", `{"store":"other","key":"k"}`, codeDenied, "`kv other` in the block of gojinn"},
		{"kv.get", `{"store":"cache","key":"k"}`, codeNotFound, ""},
		{"kv.list", `{"store":"cache"}`, 0, "map[keys:[]] "},
		{"kv.exists", `{"store":"cache","key":"k"}`, 0, "map[exists:false] "},
		{"kv.set", `{"store":"cache","key":"k"}`, codeDenied, "`kv cache` without `readonly`"},
		{"kv.delete", `{"store":"cache","key":"k"}`, codeDenied, "without `readonly`"},
		{"kv.increment", `{"store":"cache","key":"k"}`, codeDenied, "without `readonly`"},
		{"kv.compare_and_swap", `{"store":"cache","key":"k","expect":null}`, codeDenied, "without `readonly`"},
	} {
		head, body, code := g.call(step.operation, step.request)
		got := body
		if code >= 0 {
			code, got = 0, fmt.Sprint(head, " ", body)
		}
		if code != step.code || !strings.HasPrefix(got, step.want) && (code >= 0 || !strings.Contains(got, step.want)) {
			t.Errorf("%s %.100q: got %d %.100q, want %d %q", step.operation, step.request, code, got, step.code, step.want)
		}
	}
	if n := g.logs.FilterMessageSnippet("does not give").Len(); n != 2 {
		t.Errorf("%d denials were logged", n)
	}
	if n := g.counted("kv.get", "not_found"); n != 3 {
		t.Errorf("%v keys that are missing were counted", n)
	}
	g.use.storeCalls = maxStoreCalls - 1
	if _, _, code := g.call("kv.get", `{"store":"s","key":"k"}`); code < 0 {
		t.Error("the last call of a request is refused")
	}
	if _, text, code := g.call("kv.get", `{"store":"s","key":"k"}`); code != codeFailed || !strings.Contains(text, "10000") {
		t.Errorf("one call more: %d %s", code, text)
	}
	if _, _, code := g.request().call("kv.get", `{"store":"s","key":"k"}`); code < 0 {
		t.Error("the next request cannot call")
	}
}

// storesConfig returns a Caddyfile with stores.
func storesConfig(s *server, global string, lines ...string) string {
	return strings.Replace(s.simple(lines...), "admin ADMIN\n", "admin ADMIN\n gojinn {\n"+global+"\n}\n", 1)
}

// opened returns the open store of the running config.
func opened(t *testing.T, name string) *sharedStore {
	t.Helper()
	store, err := started.newest().stores[name].get()
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestStoresOutliveReloads(t *testing.T) {
	s := newServer(t)
	s.mustLoad(storesConfig(s, "kv a memory\nkv f file DIR/f.db", "kv a", "kv f readonly"))
	a, f := opened(t, "a"), opened(t, "f")
	s.mustLoad(storesConfig(s, "kv a memory\nkv f file DIR/f.db\nkv b memory", "kv a", "kv f", "timeout 3s"))
	if opened(t, "a") != a || opened(t, "f") != f {
		t.Error("a store was opened again by a reload")
	}
	s.mustLoad(storesConfig(s, "kv a memory 10MB\nkv f file DIR/g.db", "kv a"))
	if opened(t, "a") == a || opened(t, "f") == f {
		t.Error("a store with other settings is the same")
	}
	// A request of the first config may still use the store, so its file is open; a config that comes back to it finds it.
	s.mustLoad(storesConfig(s, "kv again file DIR/f.db", "kv again"))
	if opened(t, "again") != f {
		t.Error("a store that is still used was opened a second time")
	}
	s.mustLoad(s.simple())
	runtime.KeepAlive(f)
	f = nil
	for range 3 {
		runtime.GC()
	}
	// Once it is closed, the file can be opened again.
	s.mustLoad(storesConfig(s, "kv f file DIR/f.db", "kv f"))
}

// Validating a config opens nothing, so it can be done beside the Caddy that has the file open.
func TestValidatingOpensNoStore(t *testing.T) {
	s := newServer(t)
	text := strings.NewReplacer("ADDR", ":0", "ADMIN", "off", "DIR", s.dir).Replace(storesConfig(s, "kv f file DIR/new/f.db", "kv f"))
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	var parsed caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &parsed); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&parsed); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "new")); err == nil {
		t.Error("validating has made the store's file")
	}
}

func TestBadStores(t *testing.T) {
	s := newServer(t)
	s.module("text", strings.Repeat("text\n", 10_000))
	for _, test := range []struct{ global, line, want string }{
		{"", "kv sessions", "there is no key-value store \"sessions\"; add `kv sessions file` to the global option gojinn"},
		{"kv session memory", "kv sessions", "there are: session; did you mean session?"},
		{"kv f file DIR/text", "kv f", "not a file of a store"},
		{"kv f file DIR/hello.wasm/x", "kv f", "not a directory"},
		{"kv r redis {env.GOJINN_TEST_UNSET}", "kv r", "GOJINN_TEST_UNSET"},
	} {
		if err := s.load(storesConfig(s, test.global, test.line)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", test.global, err, test.want)
		}
	}
}

// The admin API shows what functions may reach, and neither where stores are nor what secrets are.
func TestAdminShowsReach(t *testing.T) {
	t.Setenv("GOJINN_TEST_SECRET", "hunter2")
	s := newServer(t)
	s.mustLoad(storesConfig(s, "kv a memory\nkv r redis redis://:hunter2@127.0.0.1:1/0",
		"kv a", "kv r readonly", "secret KEY {env.GOJINN_TEST_SECRET}", "outbound {\nallow https://API.example.com http://*.b.example:81\nallow_private 10.0.0.0/8\n}"))
	list := s.admin("/gojinn/functions")
	want := `"outbound":["https://api.example.com","http://*.b.example:81"],"outbound_private":["10.0.0.0/8"],` +
		`"kv":[{"store":"a","module":"memory"},{"store":"r","module":"redis","readonly":true}],"secrets":["KEY"]`
	if !strings.Contains(list.body, want) || strings.Contains(list.body, "hunter2") {
		t.Errorf("got %s\nwant %s", list.body, want)
	}
	// Two handlers share the function, and give it different things.
	s.mustLoad(strings.Replace(storesConfig(s, "kv a memory", "kv a"), "ADDR {", "ADDR {\n gojinn /other {\n module DIR/hello.wasm\n }\n", 1))
	list = s.admin("/gojinn/functions")
	if s.fake.Functions.Load() != 1 || strings.Count(list.body, `"name":"hello"`) != 2 || strings.Count(list.body, `"kv":[{"store":"a"`) != 1 {
		t.Errorf("of %d functions, got %s", s.fake.Functions.Load(), list.body)
	}
}
