// Early is a function for the tests of snapshots. It asks for the secret KEY before it reads its request, and answers what it got:
// so its snapshot, if there were one, would hold the secret.
package main

import (
	"encoding/json"
	"io"
	"os"
	"unsafe"
)

//go:wasmimport gojinn call
func call(operation unsafe.Pointer, operationLength uint32, request unsafe.Pointer, requestLength uint32) int32

//go:wasmimport gojinn reply
func reply(buffer unsafe.Pointer, length uint32) int32

func main() {
	operation, request := []byte("secret.get"), []byte(`{"name":"KEY"}`)
	call(unsafe.Pointer(&operation[0]), uint32(len(operation)), unsafe.Pointer(&request[0]), uint32(len(request)))
	buffer := make([]byte, 1024)
	buffer = buffer[:max(0, reply(unsafe.Pointer(&buffer[0]), uint32(len(buffer))))]
	io.Copy(io.Discard, os.Stdin)
	json.NewEncoder(os.Stdout).Encode(map[string]any{"body": string(buffer)})
}
