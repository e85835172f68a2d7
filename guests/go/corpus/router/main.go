// Router serves a small API through chi and its middleware, over requests made from CGI variables as net/http/cgi makes them.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

var router = newRouter()

func main() { contract.Answer("router", answer) }

func newRouter() http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.RequestID, middleware.StripSlashes)
	r.Route("/articles", func(r chi.Router) {
		r.Get("/{month}-{day:[0-9]+}", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "articles of %s %s\n", chi.URLParam(r, "day"), chi.URLParam(r, "month"))
		})
		r.With(middleware.AllowContentType("text/plain")).Post("/", func(w http.ResponseWriter, r *http.Request) {
			text, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			w.Header().Set("X-Request-Id", middleware.GetReqID(r.Context()))
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, "created %d words for %s\n", len(strings.Fields(string(text))), r.Host)
		})
	})
	return r
}

func answer(req *contract.Request) (*contract.Response, error) {
	body, err := req.Bytes()
	if err != nil {
		return nil, err
	}
	request, err := cgi.RequestFromMap(variables(req, len(body)))
	if err != nil {
		return nil, err
	}
	request.Body = io.NopCloser(bytes.NewReader(body))
	recorder := httptest.NewRecorder()
	router.ServeHTTP(recorder, request)
	resp := &contract.Response{Status: recorder.Code, Headers: recorder.Result().Header}
	resp.SetBody(recorder.Body.Bytes())
	return resp, nil
}

// variables are the CGI meta-variables of a request.
func variables(req *contract.Request, length int) map[string]string {
	variables := map[string]string{
		"REQUEST_METHOD":  req.Method,
		"REQUEST_URI":     req.URI,
		"SERVER_PROTOCOL": "HTTP/1.1",
		"CONTENT_LENGTH":  strconv.Itoa(length),
	}
	for name, values := range req.Headers {
		switch name {
		case "Content-Type":
			variables["CONTENT_TYPE"] = values[0]
		default:
			name = strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
			variables["HTTP_"+name] = strings.Join(values, ", ")
		}
	}
	return variables
}
