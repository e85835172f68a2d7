package gojinn

// hostReady tells the host that the program waits for its next request and may be warmed up, and is told whether a snapshot is about
// to be taken there (1) or not (0).
//
//go:wasmimport gojinn ready
func hostReady() int32

func ready() bool { return hostReady() != 0 }
