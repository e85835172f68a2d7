//go:build go1.24

package probe

import "runtime"

// addCleanup sets what took the place of finalizers.
func addCleanup(cleaned chan int) {
	runtime.AddCleanup(&node{}, func(n int) { cleaned <- n }, 99)
}
