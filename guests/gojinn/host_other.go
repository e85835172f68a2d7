//go:build !wasip1

package gojinn

// Without Gojinn there are no operations, unless a test sets a host.

var host = func(operation string, _ []byte) (reply []byte, code int32) {
	return []byte("the program does not run in Gojinn, so it cannot call " + operation), CodeUnknown
}

var lastReply []byte

func hostCall(operation string, request []byte) int32 {
	reply, code := host(operation, request)
	lastReply = reply
	if code < 0 {
		return code
	}
	return int32(len(reply))
}

func hostReply(buffer []byte) int { return copy(buffer, lastReply) }
