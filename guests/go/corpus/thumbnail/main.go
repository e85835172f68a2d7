// Thumbnail scales a PNG or JPEG body down to ?width=N (16 unless told) with golang.org/x/image/draw and answers with a PNG.
package main

import (
	"bytes"
	"image"
	_ "image/jpeg" // a format that bodies may have
	"image/png"
	"strconv"

	"golang.org/x/image/draw"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

func main() { contract.Answer("thumbnail", answer) }

func answer(req *contract.Request) (*contract.Response, error) {
	query, err := req.Query()
	if err != nil {
		return contract.Text(400, "thumbnail: "+err.Error()+"\n"), nil
	}
	width := 16
	if query.Has("width") {
		width, err = strconv.Atoi(query.Get("width"))
		if err != nil || width < 1 || width > 1024 {
			return contract.Text(400, "thumbnail: width: want 1 to 1024\n"), nil
		}
	}
	body, err := req.Bytes()
	if err != nil {
		return nil, err
	}
	source, _, err := image.Decode(bytes.NewReader(body))
	if err != nil {
		return contract.Text(415, "thumbnail: "+err.Error()+"\n"), nil
	}
	bounds := source.Bounds()
	scaled := image.NewNRGBA(image.Rect(0, 0, width, max(1, bounds.Dy()*width/bounds.Dx())))
	draw.CatmullRom.Scale(scaled, scaled.Bounds(), source, bounds, draw.Src, nil)
	var file bytes.Buffer
	if err := png.Encode(&file, scaled); err != nil {
		return nil, err
	}
	resp := &contract.Response{Status: 200, Headers: map[string][]string{"Content-Type": {"image/png"}}}
	resp.SetBody(file.Bytes())
	return resp, nil
}
