// Package main is Caddy with its standard modules and Gojinn.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "time/tzdata"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/pauloappbr/gojinn/caddy"
)

func main() {
	caddycmd.Main()
}
