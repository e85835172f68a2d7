// Redirects answers requests for old paths with redirects, and lets all others go on.
//
// The argument is a file with a line `OLD NEW [STATUS]` for each path; the status is 308 unless it is given. In NEW, a * at the end
// is what follows the * at the end of OLD. Empty lines and lines that begin with # are ignored. The longest OLD that matches counts.
package main

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/pauloappbr/gojinn/guests/gojinn"
)

func main() {
	gojinn.Serve(func(r *gojinn.Request) *gojinn.Response {
		// The file is read for each request, so that its changes count at once.
		location, status, err := find(os.Args[1:], r.URI)
		switch {
		case err != nil:
			fmt.Fprintln(os.Stderr, "redirects:", err)
			os.Exit(1)
		case location == "":
			return gojinn.Next()
		}
		return &gojinn.Response{Status: status, Header: gojinn.Header{"Location": {location}}}
	})
}

// find returns where the file sends a URI; "" if it does not.
func find(args []string, uri string) (location string, status int, err error) {
	if len(args) != 1 {
		return "", 0, fmt.Errorf("want one argument, the file of the redirects")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return "", 0, err
	}
	path, query, _ := strings.Cut(uri, "?")
	longest := -1
	for i, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) > 3 || len(fields) < 2 {
			return "", 0, fmt.Errorf("%s, line %d: want OLD NEW [STATUS]", args[0], i+1)
		}
		code := http.StatusPermanentRedirect
		if len(fields) == 3 {
			if code, err = strconv.Atoi(fields[2]); err != nil || code < 300 || code > 399 {
				return "", 0, fmt.Errorf("%s, line %d: the status %s is not one of a redirect", args[0], i+1, fields[2])
			}
		}
		old, target := fields[0], fields[1]
		if prefix, ok := strings.CutSuffix(old, "*"); ok {
			rest, matches := strings.CutPrefix(path, prefix)
			if !matches {
				continue
			}
			if to, ok := strings.CutSuffix(target, "*"); ok {
				target = to + rest
			}
		} else if path != old {
			continue
		}
		if len(old) > longest {
			longest, location, status = len(old), target, code
		}
	}
	if location != "" && query != "" && !strings.Contains(location, "?") {
		location += "?" + query
	}
	return location, status, nil
}
