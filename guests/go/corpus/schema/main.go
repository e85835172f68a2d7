// Schema checks an order against a JSON schema (draft 2020-12) that santhosh-tekuri/jsonschema compiled when the program started.
package main

import (
	_ "embed"
	"errors"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

//go:embed order.json
var source string

var order = compile()

func main() { contract.Answer("schema", answer) }

func compile() *jsonschema.Schema {
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(source))
	if err != nil {
		panic(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	const url = "https://example.org/order.json"
	if err := compiler.AddResource(url, document); err != nil {
		panic(err)
	}
	return compiler.MustCompile(url)
}

func answer(req *contract.Request) (*contract.Response, error) {
	instance, err := jsonschema.UnmarshalJSON(strings.NewReader(req.Body))
	if err != nil {
		return contract.Text(400, "schema: "+err.Error()+"\n"), nil
	}
	var invalid *jsonschema.ValidationError
	if err := order.Validate(instance); errors.As(err, &invalid) {
		return contract.JSON(422, invalid.BasicOutput())
	} else if err != nil {
		return nil, err
	}
	return contract.JSON(200, map[string]bool{"valid": true})
}
