// visits counts its requests in the store "visits", by path, and answers the number.
package main

import (
	"strconv"
	"strings"

	"github.com/pauloappbr/gojinn/guests/gojinn"
)

func main() {
	visits := gojinn.KV("visits")
	gojinn.Serve(func(r *gojinn.Request) *gojinn.Response {
		path, _, _ := strings.Cut(r.URI, "?")
		n, err := visits.Increment(path, 1)
		if err != nil {
			return gojinn.Text(500, err.Error()+"\n")
		}
		return gojinn.Text(200, strconv.FormatInt(n, 10)+"\n")
	})
}
