// Keep is a function that stores the body of a PUT in the store "kept", under the request's path, and answers a GET with it.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"unsafe"
)

//go:wasmimport gojinn call
func call(operation unsafe.Pointer, operationLength uint32, request unsafe.Pointer, requestLength uint32) int32

//go:wasmimport gojinn reply
func reply(buffer unsafe.Pointer, length uint32) int32

func main() {
	var request struct{ Method, URI, Body string }
	if err := json.NewDecoder(os.Stdin).Decode(&request); err != nil {
		panic(err)
	}
	key, err := json.Marshal(request.URI)
	if err != nil {
		panic(err)
	}
	operation, text := "kv.get", `{"store":"kept","key":`+string(key)+"}\n"
	if request.Method == "PUT" {
		operation, text = "kv.set", text+request.Body
	}
	n := call(unsafe.Pointer(unsafe.StringData(operation)), uint32(len(operation)), unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
	buffer := make([]byte, max(n, 1024))
	answer := string(buffer[:reply(unsafe.Pointer(&buffer[0]), uint32(len(buffer)))])
	status := 200
	if n < 0 {
		status = 500
	}
	_, body, _ := strings.Cut(answer, "\n")
	json.NewEncoder(os.Stdout).Encode(map[string]any{"status": status, "body": body})
}
