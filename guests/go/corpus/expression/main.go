// Expression compiles and runs the rule in the body over the values beside it, with expr-lang/expr.
package main

import (
	"encoding/json"

	"github.com/expr-lang/expr"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

// rule is the body of the request.
type rule struct {
	Expression string         `json:"expression"`
	Values     map[string]any `json:"values"`
}

func main() { contract.Answer("expression", answer) }

func answer(req *contract.Request) (*contract.Response, error) {
	var wanted rule
	if err := json.Unmarshal([]byte(req.Body), &wanted); err != nil {
		return contract.Text(400, "expression: "+err.Error()+"\n"), nil
	}
	program, err := expr.Compile(wanted.Expression, expr.Env(wanted.Values))
	if err != nil {
		return contract.Text(422, "expression: "+err.Error()+"\n"), nil
	}
	result, err := expr.Run(program, wanted.Values)
	if err != nil {
		return contract.Text(422, "expression: "+err.Error()+"\n"), nil
	}
	return contract.JSON(200, map[string]any{"result": result})
}
