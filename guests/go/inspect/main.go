// Inspect is the diagnostic guest of the tests: it reports what it sees, and misbehaves on request (the query says how).
package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

// report is the body of the answer.
type report struct {
	Args    []string          `json:"args"`
	Environ []string          `json:"environ"`
	Request *contract.Request `json:"request"`
	// TimeUnixNano is the wall clock when the answer was made.
	TimeUnixNano int64 `json:"time_unix_nano"`
	// Random is 16 bytes of crypto/rand, in hex.
	Random string `json:"random"`
	// SleptNano is how long ?sleep took by the monotonic clock.
	SleptNano int64 `json:"slept_nano,omitempty"`
	// Allocated is what ?alloc got and wrote to.
	Allocated int         `json:"allocated,omitempty"`
	Read      *fileReport `json:"read,omitempty"`
	Write     *fileReport `json:"write,omitempty"`
	List      *listReport `json:"list,omitempty"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "inspect:", err)
		os.Exit(1)
	}
}

func run() error {
	req, err := contract.Read(os.Stdin)
	if err != nil {
		return err
	}
	query, err := req.Query()
	if err != nil {
		return badQuery(err)
	}
	wanted, err := parseBehaviour(query)
	if err != nil {
		return badQuery(err)
	}
	rep := &report{Args: os.Args, Environ: os.Environ(), Request: req}
	slices.Sort(rep.Environ)
	if err := wanted.perform(rep); err != nil {
		return err
	}
	return rep.send(wanted.status)
}

// send writes the report, as the response's indented JSON body.
func (r *report) send(status int) error {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	r.Random = hex.EncodeToString(random)
	r.TimeUnixNano = time.Now().UnixNano()
	body, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	resp := &contract.Response{
		Status:  status,
		Headers: map[string][]string{"Content-Type": {"application/json"}},
		Body:    string(body) + "\n",
	}
	return resp.Write(os.Stdout)
}

// badQuery answers 400 with the reason and what is understood.
func badQuery(err error) error {
	text := fmt.Sprintf("inspect: %v; understood are %s\n", err, behaviours)
	return contract.Text(400, text).Write(os.Stdout)
}

// single is the one value of name in query; ok is false where there is none.
func single(query url.Values, name string) (value string, ok bool, err error) {
	switch values := query[name]; len(values) {
	case 0:
		return "", false, nil
	case 1:
		return values[0], true, nil
	default:
		return "", false, fmt.Errorf("%s is given %d times, want once", name, len(values))
	}
}
