// calls calls an API and counts visits: the key of the API is a secret, and the number of visits is in a key-value store.
//
// The program uses net/http as any other does. The second import lets it go through Gojinn.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/pauloappbr/gojinn/guests/gojinn"
	_ "github.com/pauloappbr/gojinn/guests/gojinn/gojinnhttp/defaulttransport"
)

func main() {
	gojinn.Serve(func(*gojinn.Request) *gojinn.Response {
		status, text, err := answer()
		if err != nil {
			return gojinn.Text(500, err.Error()+"\n")
		}
		return gojinn.Text(status, text)
	})
}

func answer() (status int, text string, err error) {
	key, err := gojinn.Secret("API_KEY")
	if err != nil {
		return 0, "", err
	}
	request, err := http.NewRequest("POST", os.Getenv("API_URL"), strings.NewReader("from Go"))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "text/plain")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, "", err
	}

	visits := gojinn.KV("visits")
	n, err := visits.Increment("go", 1)
	if err != nil {
		return 0, "", err
	}
	// The answer of the API is kept for later.
	if err := visits.SetFor("go/last", body, time.Minute); err != nil {
		return 0, "", err
	}
	last, err := visits.Get("go/last")
	if err != nil {
		return 0, "", err
	}
	return response.StatusCode, fmt.Sprintf("%s, visit %d\n", last, n), nil
}
