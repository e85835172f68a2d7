// Hello is the function of the README, written with package gojinn.
package main

import (
	"fmt"

	"github.com/pauloappbr/gojinn/guests/gojinn"
)

func main() {
	// The answer depends on the request alone.
	gojinn.WarmUp()
	gojinn.Serve(func(r *gojinn.Request) *gojinn.Response {
		return gojinn.Text(200, fmt.Sprintf("Hello from Go: %s %s trace=%s\n", r.Method, r.URI, r.TraceID))
	})
}
