// Markdown turns the request's body from Markdown (CommonMark and GitHub's tables) into HTML, with a real library.
package main

import (
	"bytes"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

func main() { contract.Answer("markdown", answer) }

func answer(req *contract.Request) (*contract.Response, error) {
	if req.BodyBase64 != nil {
		return contract.Text(415, "markdown: the body is not UTF-8 text\n"), nil
	}
	// Raw HTML in the source is left out by default: the body is the client's.
	converter := goldmark.New(goldmark.WithExtensions(extension.GFM))
	var page bytes.Buffer
	if err := converter.Convert([]byte(req.Body), &page); err != nil {
		return nil, err
	}
	return &contract.Response{
		Status:  200,
		Headers: map[string][]string{"Content-Type": {"text/html; charset=utf-8"}},
		Body:    page.String(),
	}, nil
}
