// Yaml turns a YAML document, anchors and merges included, into JSON with goccy/go-yaml; one that is wrong is a 422 that shows where.
package main

import (
	"github.com/goccy/go-yaml"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

func main() { contract.Answer("yaml", answer) }

func answer(req *contract.Request) (*contract.Response, error) {
	var document any
	if err := yaml.Unmarshal([]byte(req.Body), &document); err != nil {
		return contract.Text(422, yaml.FormatError(err, false, true)+"\n"), nil
	}
	return contract.JSON(200, document)
}
