// Tests of the committed module.

package quickjs

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The module is the one of the manifest, it is small, and it names no path of the machine that built it.
func TestModule(t *testing.T) {
	manifest, err := os.ReadFile("SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(Module)
	if want := hex.EncodeToString(sum[:]) + "  quickjs.wasm\n"; !strings.HasSuffix(string(manifest), want) {
		t.Errorf("the manifest does not end with %q; guests/quickjs/build.sh update writes it", want)
	}
	if len(Module) > 2_000_000 {
		t.Errorf("the module has %d bytes, and each of them is in every Caddy", len(Module))
	}
	here, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	of := regexp.MustCompile(regexp.QuoteMeta(here) + "|" + regexp.QuoteMeta(os.TempDir()+"/") + `|/(home|root|Users|\.cargo)/`)
	if path := of.Find(Module); path != nil {
		t.Errorf("the module names %q, a path of the machine that built it", path)
	}
}
