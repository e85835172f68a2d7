//go:build !cgo

package engine

import "errors"

// errNoCgo says what to run: xcaddy builds without cgo unless told otherwise.
var errNoCgo = errors.New("this Caddy was built without cgo, so it has no engine to run functions in; " +
	"build it again with `make caddy`, or after `make install PREFIX=/usr/local` with " +
	"`CGO_ENABLED=1 PKG_CONFIG_PATH=/usr/local/lib/pkgconfig " +
	"xcaddy build v2.11.9 --with github.com/pauloappbr/gojinn/caddy=./caddy`")

// New fails: there is no engine without cgo.
func New(*Config) (Engine, error) { return nil, errNoCgo }

// Live is how many engines and functions have been made and not yet freed: none without cgo.
func Live() (engines, functions int64) { return 0, 0 }
