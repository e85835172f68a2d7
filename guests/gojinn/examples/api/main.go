// api calls the API that the environment variable API_URL names, with the key that the secret API_KEY is, and answers what it
// answers. http.Get and all that is built on it goes through Gojinn because of one import.
package main

import (
	"io"
	"net/http"
	"os"

	"github.com/pauloappbr/gojinn/guests/gojinn"
	_ "github.com/pauloappbr/gojinn/guests/gojinn/gojinnhttp/defaulttransport"
)

func main() {
	gojinn.Serve(func(r *gojinn.Request) *gojinn.Response {
		key, err := gojinn.Secret("API_KEY")
		if err != nil {
			return gojinn.Text(500, err.Error()+"\n")
		}
		request, err := http.NewRequest("GET", os.Getenv("API_URL"), nil)
		if err != nil {
			return gojinn.Text(500, err.Error()+"\n")
		}
		request.Header.Set("Authorization", "Bearer "+key)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return gojinn.Text(502, err.Error()+"\n")
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return gojinn.Text(502, err.Error()+"\n")
		}
		return gojinn.Text(response.StatusCode, string(body))
	})
}
