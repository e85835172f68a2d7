// Package quickjs has the module that runs scripts: QuickJS-NG and the web's interfaces over it. guests/quickjs has its source.
package quickjs

import _ "embed"

// Module is the WebAssembly module. A script reaches it as the data of its deployment.
//
//go:embed quickjs.wasm
var Module []byte
