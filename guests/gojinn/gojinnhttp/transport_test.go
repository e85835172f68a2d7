package gojinnhttp_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pauloappbr/gojinn/guests/gojinn"
	"github.com/pauloappbr/gojinn/guests/gojinn/gojinnhttp"
	_ "github.com/pauloappbr/gojinn/guests/gojinn/gojinnhttp/defaulttransport"
)

// Outside Gojinn each request fails, and says so. guests/check and the tests of the plugin have a host.
func TestTransportWithoutAHost(t *testing.T) {
	_, err := http.Get("https://api.example.com")
	if err == nil || !strings.Contains(err.Error(), "does not run in Gojinn") {
		t.Errorf("got %v", err)
	}
	_, err = gojinnhttp.Transport{}.RoundTrip(httpRequest(t, context.Background()))
	if e, ok := err.(*gojinn.Error); !ok || e.Code != gojinn.CodeUnknown {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := (gojinnhttp.Transport{}).RoundTrip(httpRequest(t, ctx)); err != context.DeadlineExceeded {
		t.Errorf("a deadline that is over: %v", err)
	}
}

func httpRequest(t *testing.T, ctx context.Context) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "POST", "https://api.example.com", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
