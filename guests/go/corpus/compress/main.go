// Compress packs the body with klauspost/compress (zstd, s2, gzip), unpacks it again and tells the sizes.
package main

import (
	"bytes"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

// result tells of one format.
type result struct {
	Bytes int `json:"bytes"`
	// Same says whether what was unpacked is what was packed.
	Same bool `json:"same"`
}

var (
	encoder = must(zstd.NewWriter(nil))
	decoder = must(zstd.NewReader(nil))
)

func main() { contract.Answer("compress", answer) }

func answer(req *contract.Request) (*contract.Response, error) {
	body, err := req.Bytes()
	if err != nil {
		return nil, err
	}
	results := map[string]result{}

	packed := encoder.EncodeAll(body, nil)
	unpacked, err := decoder.DecodeAll(packed, nil)
	if err != nil {
		return nil, err
	}
	results["zstd"] = result{len(packed), bytes.Equal(unpacked, body)}

	packed = s2.EncodeBetter(nil, body)
	if unpacked, err = s2.Decode(nil, packed); err != nil {
		return nil, err
	}
	results["s2"] = result{len(packed), bytes.Equal(unpacked, body)}

	var file bytes.Buffer
	writer := must(gzip.NewWriterLevel(&file, gzip.BestCompression))
	if _, err := writer.Write(body); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	size := file.Len()
	reader, err := gzip.NewReader(&file)
	if err != nil {
		return nil, err
	}
	if unpacked, err = io.ReadAll(reader); err != nil {
		return nil, err
	}
	results["gzip"] = result{size, bytes.Equal(unpacked, body)}
	return contract.JSON(200, results)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
