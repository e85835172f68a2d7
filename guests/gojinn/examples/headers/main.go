// Headers applies rules to headers: to those of the request, before the next handler sees them, and to those of the response.
//
// Each argument is a rule: `request|response PATH-PREFIX NAME [VALUE]`. A rule without a value removes the header. $client_ip,
// $trace_id and $path in a value are replaced. Of several rules for one header the last one counts.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/pauloappbr/gojinn/guests/gojinn"
)

type rule struct {
	response           bool
	prefix, name, text string
	remove             bool
}

func main() {
	var rules []rule
	for _, arg := range os.Args[1:] {
		fields := strings.SplitN(arg, " ", 4)
		if len(fields) < 3 || fields[0] != "request" && fields[0] != "response" {
			fmt.Fprintf(os.Stderr, "headers: the rule %q is not `request|response PATH-PREFIX NAME [VALUE]`\n", arg)
			os.Exit(1)
		}
		r := rule{response: fields[0] == "response", prefix: fields[1], name: fields[2], remove: len(fields) == 3}
		if !r.remove {
			r.text = fields[3]
		}
		rules = append(rules, r)
	}
	gojinn.Serve(func(r *gojinn.Request) *gojinn.Response {
		next := gojinn.Next()
		path := r.Path()
		values := strings.NewReplacer("$client_ip", r.ClientIP, "$trace_id", r.TraceID, "$path", path)
		for _, rule := range rules {
			if !strings.HasPrefix(path, rule.prefix) {
				continue
			}
			header := next.Next.Header
			if rule.response {
				header = next.Header
			}
			if rule.remove {
				header.Remove(rule.name)
			} else {
				header.Set(rule.name, values.Replace(rule.text))
			}
		}
		return next
	})
}
