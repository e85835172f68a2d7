// Template renders an invoice with pongo2, whose templates are those of Django.
package main

import (
	_ "embed"
	"encoding/json"

	"github.com/flosch/pongo2/v6"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

//go:embed invoice.html
var source string

var invoice = pongo2.Must(pongo2.FromString(source))

func main() { contract.Answer("template", answer) }

func answer(req *contract.Request) (*contract.Response, error) {
	var values pongo2.Context
	if err := json.Unmarshal([]byte(req.Body), &values); err != nil {
		return contract.Text(400, "template: "+err.Error()+"\n"), nil
	}
	page, err := invoice.Execute(values)
	if err != nil {
		return nil, err
	}
	resp := contract.Text(200, page)
	resp.Headers["Content-Type"] = []string{"text/html; charset=utf-8"}
	return resp, nil
}
