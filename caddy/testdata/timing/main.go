// Timing calls an operation again and again while it answers one request, and answers with how long each call took, in nanoseconds.
// OPERATION, REQUEST and CALLS say what and how often. The request is written beforehand, so that a call is what the host costs.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
	"unsafe"
)

//go:wasmimport gojinn call
func call(operation unsafe.Pointer, operationLength uint32, request unsafe.Pointer, requestLength uint32) int32

//go:wasmimport gojinn reply
func reply(buffer unsafe.Pointer, length uint32) int32

func main() {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		panic(err)
	}
	operation, request := os.Getenv("OPERATION"), os.Getenv("REQUEST")+"\n"
	calls, err := strconv.Atoi(os.Getenv("CALLS"))
	if err != nil {
		panic(err)
	}
	took, buffer := make([]time.Duration, calls), make([]byte, 64<<10)
	for i := range took {
		start := time.Now()
		n := call(unsafe.Pointer(unsafe.StringData(operation)), uint32(len(operation)), unsafe.Pointer(unsafe.StringData(request)), uint32(len(request)))
		got := reply(unsafe.Pointer(&buffer[0]), uint32(len(buffer)))
		took[i] = time.Since(start)
		if n < 0 {
			panic(fmt.Sprintf("call %d: code %d: %s", i, n, buffer[:got]))
		}
		if n != got {
			panic(fmt.Sprintf("call %d: %d bytes instead of %d", i, got, n))
		}
	}
	list, err := json.Marshal(took)
	if err != nil {
		panic(err)
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{"status": 200, "body": string(list)})
}
