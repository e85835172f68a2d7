// Markdown renders an article with goldmark (footnotes, typographic quotes, heading ids) and lists its headings.
package main

import (
	"bytes"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

var converter = goldmark.New(
	goldmark.WithExtensions(extension.GFM, extension.Footnote, extension.Typographer, extension.DefinitionList),
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
)

// article is the body of the answer.
type article struct {
	HTML     string    `json:"html"`
	Headings []heading `json:"headings"`
}

type heading struct {
	Level int    `json:"level"`
	ID    string `json:"id"`
}

func main() { contract.Answer("markdown", answer) }

func answer(req *contract.Request) (*contract.Response, error) {
	source := []byte(req.Body)
	document := converter.Parser().Parse(text.NewReader(source))
	var result article
	err := ast.Walk(document, func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if found, ok := node.(*ast.Heading); ok && entering {
			id, _ := found.AttributeString("id")
			bytes, _ := id.([]byte)
			result.Headings = append(result.Headings, heading{Level: found.Level, ID: string(bytes)})
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	if err := converter.Renderer().Render(&page, source, document); err != nil {
		return nil, err
	}
	result.HTML = page.String()
	return contract.JSON(200, result)
}
