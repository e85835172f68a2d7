// Github is a function over a client of an API that knows nothing of Gojinn: github.com/google/go-github, unmodified. GET / lists the
// open issues of a repository, one in each line; POST / with a text opens an issue of that title.
//
// GITHUB_REPOSITORY is the repository, as owner/name. GITHUB_URL is the API's address, without it GitHub's. The token is the secret
// GITHUB_TOKEN.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/google/go-github/v75/github"

	"github.com/pauloappbr/gojinn/guests/gojinn"
	"github.com/pauloappbr/gojinn/guests/gojinn/gojinnhttp"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", list)
	mux.HandleFunc("POST /", open)
	gojinnhttp.Serve(mux)
}

// connect returns the client of the API, and the repository.
func connect() (client *github.Client, owner, name string, err error) {
	owner, name, ok := strings.Cut(os.Getenv("GITHUB_REPOSITORY"), "/")
	if !ok {
		return nil, "", "", errors.New("GITHUB_REPOSITORY must be owner/name")
	}
	// Asked for in each request, so that it may change at any time.
	token, err := gojinn.Secret("GITHUB_TOKEN")
	if err != nil {
		return nil, "", "", err
	}
	// The client takes an http.Client: its transport is all that is Gojinn's.
	client = github.NewClient(&http.Client{Transport: gojinnhttp.Transport{}}).WithAuthToken(token)
	if base := os.Getenv("GITHUB_URL"); base != "" {
		if client.BaseURL, err = url.Parse(strings.TrimSuffix(base, "/") + "/"); err != nil {
			return nil, "", "", err
		}
	}
	return client, owner, name, nil
}

func list(w http.ResponseWriter, r *http.Request) {
	client, owner, name, err := connect()
	if err != nil {
		fail(w, err)
		return
	}
	options := &github.IssueListByRepoOptions{State: "open", ListOptions: github.ListOptions{PerPage: 100}}
	var lines strings.Builder
	for {
		issues, response, err := client.Issues.ListByRepo(r.Context(), owner, name, options)
		if err != nil {
			fail(w, err)
			return
		}
		for _, issue := range issues {
			fmt.Fprintf(&lines, "#%d %s, by %s\n", issue.GetNumber(), issue.GetTitle(), issue.GetUser().GetLogin())
		}
		if response.NextPage == 0 {
			break
		}
		options.ListOptions.Page = response.NextPage
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, lines.String())
}

func open(w http.ResponseWriter, r *http.Request) {
	title, err := io.ReadAll(r.Body)
	if err != nil || len(title) == 0 {
		http.Error(w, "the body must be the issue's title", http.StatusBadRequest)
		return
	}
	client, owner, name, err := connect()
	if err != nil {
		fail(w, err)
		return
	}
	issue, _, err := client.Issues.Create(r.Context(), owner, name, &github.IssueRequest{Title: github.Ptr(string(title))})
	if err != nil {
		fail(w, err)
		return
	}
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, "#%d %s\n", issue.GetNumber(), issue.GetTitle())
}

// fail answers with what the API said, or why it could not be reached.
func fail(w http.ResponseWriter, err error) {
	status := http.StatusBadGateway
	var refused *github.ErrorResponse
	if errors.As(err, &refused) && refused.Response.StatusCode == http.StatusNotFound {
		status = http.StatusNotFound
	}
	http.Error(w, err.Error(), status)
}
