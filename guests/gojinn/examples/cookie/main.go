// Cookie lets requests with a signed cookie go on, and sends all others to a page where the user signs in.
//
// The cookie `session` is USER.EXPIRY.SIGNATURE: a name, seconds since 1970, and the HMAC-SHA256 of USER.EXPIRY in hex. The key is
// the environment variable SESSION_KEY; LOGIN is the path to be sent to.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pauloappbr/gojinn/guests/gojinn"
)

func main() {
	key, login := os.Getenv("SESSION_KEY"), os.Getenv("LOGIN")
	if key == "" || login == "" {
		fmt.Fprintln(os.Stderr, "cookie: the environment variables SESSION_KEY and LOGIN are needed")
		os.Exit(1)
	}
	gojinn.Serve(func(r *gojinn.Request) *gojinn.Response {
		user, ok := signedIn(r.Header, key, time.Now())
		if !ok {
			return &gojinn.Response{
				Status: http.StatusSeeOther,
				Header: gojinn.Header{"Location": {login + "?to=" + url.QueryEscape(r.URI)}, "Cache-Control": {"no-store"}},
			}
		}
		next := gojinn.Next()
		// This replaces what the client may have sent under the same name.
		next.Next.Header.Set("X-User", user)
		next.Next.Vars["user"] = user
		next.Header.Set("Cache-Control", "private")
		return next
	})
}

// signedIn returns the user of a valid cookie.
func signedIn(header gojinn.Header, key string, now time.Time) (user string, ok bool) {
	request := http.Request{Header: http.Header(header)}
	cookie, err := request.Cookie("session")
	if err != nil {
		return "", false
	}
	signed, signature, _ := cutLast(cookie.Value)
	user, expiry, _ := cutLast(signed)
	sent, err := hex.DecodeString(signature)
	if err != nil || user == "" {
		return "", false
	}
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(signed))
	if !hmac.Equal(sent, mac.Sum(nil)) {
		return "", false
	}
	until, err := strconv.ParseInt(expiry, 10, 64)
	return user, err == nil && now.Unix() < until
}

// cutLast cuts s at its last dot.
func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}
