// Uuid makes identifiers with google/uuid: two at random, one in order of time, and one of the body.
package main

import (
	"github.com/google/uuid"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

func main() { contract.Answer("uuid", answer) }

func answer(req *contract.Request) (*contract.Response, error) {
	body, err := req.Bytes()
	if err != nil {
		return nil, err
	}
	ordered, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	return contract.JSON(200, map[string]any{
		"random":  []string{uuid.NewString(), uuid.NewString()},
		"ordered": ordered,
		"of_body": uuid.NewSHA1(uuid.NameSpaceURL, body),
	})
}
