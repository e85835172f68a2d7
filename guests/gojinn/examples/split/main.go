// Split divides visitors between two variants, A/B, by a hash of their id, so that a visitor always gets the same one.
//
// The id is in the cookie `visitor`; a visitor without one gets one. The argument is the share of the variant b in percent. The
// variable `variant` is a or b.
package main

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"os"
	"strconv"

	"github.com/pauloappbr/gojinn/guests/gojinn"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "split: want one argument, the share of b in percent")
		os.Exit(1)
	}
	share, err := strconv.ParseUint(os.Args[1], 10, 32)
	if err != nil || share > 100 {
		fmt.Fprintf(os.Stderr, "split: the share of b is %q; want a number from 0 to 100\n", os.Args[1])
		os.Exit(1)
	}
	gojinn.Serve(func(r *gojinn.Request) *gojinn.Response {
		next := gojinn.Next()
		visitor := ""
		request := http.Request{Header: http.Header(r.Header)}
		if cookie, err := request.Cookie("visitor"); err == nil {
			visitor = cookie.Value
		}
		if visitor == "" {
			// No two requests have the same.
			visitor = r.TraceID
			cookie := http.Cookie{Name: "visitor", Value: visitor, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, SameSite: http.SameSiteLaxMode}
			next.Header.Add("Set-Cookie", cookie.String())
		}
		next.Next.Vars["variant"] = variant(visitor, uint32(share))
		next.Header.Add("Vary", "Cookie")
		return next
	})
}

// variant is the variant of a visitor.
func variant(visitor string, share uint32) string {
	hash := fnv.New32a()
	hash.Write([]byte(visitor))
	if hash.Sum32()%100 < share {
		return "b"
	}
	return "a"
}
