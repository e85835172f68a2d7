package gojinn

import (
	"runtime"
	"unsafe"
)

//go:wasmimport gojinn call
func importedCall(operation unsafe.Pointer, operationLength uint32, request unsafe.Pointer, requestLength uint32) int32

//go:wasmimport gojinn reply
func importedReply(buffer unsafe.Pointer, length uint32) int32

func hostCall(operation string, request []byte) int32 {
	n := importedCall(
		unsafe.Pointer(unsafe.StringData(operation)), uint32(len(operation)),
		unsafe.Pointer(unsafe.SliceData(request)), uint32(len(request)))
	runtime.KeepAlive(operation)
	runtime.KeepAlive(request)
	return n
}

func hostReply(buffer []byte) int {
	n := importedReply(unsafe.Pointer(unsafe.SliceData(buffer)), uint32(len(buffer)))
	runtime.KeepAlive(buffer)
	return max(int(n), 0)
}
