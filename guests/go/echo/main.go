// Echo answers with the request's own body, byte for byte, and its Content-Type; ?status=NNN sets the status.
package main

import (
	"strconv"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

func main() { contract.Answer("echo", answer) }

func answer(req *contract.Request) (*contract.Response, error) {
	query, err := req.Query()
	if err != nil {
		return contract.Text(400, "echo: "+err.Error()+"\n"), nil
	}
	body, err := req.Bytes()
	if err != nil {
		return nil, err
	}
	resp := &contract.Response{Status: 200, Headers: map[string][]string{}}
	if query.Has("status") {
		// Any integer goes through, so that a test can see what the host makes of it.
		resp.Status, err = strconv.Atoi(query.Get("status"))
		if err != nil {
			return contract.Text(400, "echo: status: want an integer, as in ?status=404\n"), nil
		}
	}
	if types := req.Headers["Content-Type"]; len(types) > 0 {
		resp.Headers["Content-Type"] = types
	}
	resp.SetBody(body)
	return resp, nil
}
