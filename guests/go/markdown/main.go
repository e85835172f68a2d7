// Markdown turns the request's body from Markdown (CommonMark and GitHub's tables) into HTML, with a real library.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "markdown:", err)
		os.Exit(1)
	}
}

func run() error {
	req, err := contract.Read(os.Stdin)
	if err != nil {
		return err
	}
	if req.BodyBase64 != nil {
		return contract.Text(415, "markdown: the body is not UTF-8 text\n").Write(os.Stdout)
	}
	// Raw HTML in the source is left out by default: the body is the client's.
	converter := goldmark.New(goldmark.WithExtensions(extension.GFM))
	var page bytes.Buffer
	if err := converter.Convert([]byte(req.Body), &page); err != nil {
		return err
	}
	resp := &contract.Response{
		Status:  200,
		Headers: map[string][]string{"Content-Type": {"text/html; charset=utf-8"}},
		Body:    page.String(),
	}
	return resp.Write(os.Stdout)
}
