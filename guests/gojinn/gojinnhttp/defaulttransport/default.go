// Package defaulttransport makes http.DefaultTransport send requests through Gojinn. Import it for that:
//
//	import _ "github.com/pauloappbr/gojinn/guests/gojinn/gojinnhttp/defaulttransport"
package defaulttransport

import (
	"net/http"

	"github.com/pauloappbr/gojinn/guests/gojinn/gojinnhttp"
)

func init() { http.DefaultTransport = gojinnhttp.Transport{} }
