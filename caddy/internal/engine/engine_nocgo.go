//go:build !cgo

// This file replaces the engine in a build without cgo, which can run no functions.

package engine

import "errors"

// errNoCgo says how to build with cgo, which xcaddy does not do by default.
var errNoCgo = errors.New("this Caddy was built without cgo, so it has no engine to run functions in; " +
	"build it again with `make caddy`, or after `make install PREFIX=/usr/local` with " +
	"`CGO_ENABLED=1 PKG_CONFIG_PATH=/usr/local/lib/pkgconfig " +
	"xcaddy build v2.11.9 --with github.com/pauloappbr/gojinn/caddy=./caddy`")

// New fails: there is no engine without cgo.
func New(*Config) (Engine, error) { return nil, errNoCgo }

// Live returns how many engines and functions were made and not yet freed: none without cgo.
func Live() (engines, functions int64) { return 0, 0 }
