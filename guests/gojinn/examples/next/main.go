// Next lets each request go on to Caddy's next handler, changed in each way that there is.
package main

import "github.com/pauloappbr/gojinn/guests/gojinn"

func main() {
	gojinn.Serve(func(*gojinn.Request) *gojinn.Response {
		next := gojinn.Next()
		next.Next.Method = "PUT"
		next.Next.URI = "/v2/go?a=b"
		next.Next.Header.Set("X-Language", "Go")
		next.Next.Header.Set("X-Two", "1")
		next.Next.Header.Remove("Cookie")
		next.Next.Header.Add("x-two", "2")
		next.Next.Vars["language"] = "Go"
		next.Header.Set("X-Frame-Options", "DENY")
		next.Header.Set("Link", `</a>; rel="preload"`)
		next.Header.Add("Link", "</b>")
		next.Header.Remove("Server")
		return next
	})
}
