// Load requests one URL repeatedly over keep-alive connections, checks every answer, and prints how fast they came.
//
//	load -url http://127.0.0.1:8080/c -status 200 -body 'Hello from C: POST /c trace=load-1
//	' -connections 16 -seconds 3
//
// It prints one line: requests per second, then the 50th, 90th, 99th and 100th percentile of latency in microseconds, then
// the number of requests. If an answer is not the expected one it ends with exit code 1, so that an error page is never
// measured.
//
// It writes requests and reads answers itself, because net/http's client needs more CPU time than the server.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	address := flag.String("url", "", "the URL to request")
	status := flag.Int("status", 200, "the status every answer must have")
	body := flag.String("body", "", "the body every answer must have; empty: that of the first answer, if it is not empty")
	request := flag.String("json", `{"name":"world","number":1}`, "the body of every request")
	connections := flag.Int("connections", 16, "connections, each with one request at a time")
	seconds := flag.Float64("seconds", 3, "how long to make requests")
	count := flag.Int("count", 0, "how many requests to make; replaces -seconds")
	flag.Parse()
	if err := run(*address, *status, *body, *request, *connections, *seconds, *count); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(address string, status int, body, request string, connections int, seconds float64, count int) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	if u.Host == "" {
		return errors.New("-url must be a URL like http://127.0.0.1:8080/path")
	}
	ask := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\nAccept: */*\r\nX-Request-Id: load-1\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", u.RequestURI(), u.Host, len(request), request)

	first, err := newClient(u.Host, ask, status, []byte(body))
	if err != nil {
		return err
	}
	if err := first.once(); err != nil {
		return err
	}
	expected := first.expected
	first.connection.Close()

	clients := make([]*client, connections)
	for i := range clients {
		if clients[i], err = newClient(u.Host, ask, status, expected); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	begun := time.Now()
	var group sync.WaitGroup
	for i, c := range clients {
		share := 0
		if count > 0 {
			share = (count + i) / connections
		}
		group.Go(func() { c.work(deadline, count > 0, share) })
	}
	group.Wait()
	took := time.Since(begun)

	var all []time.Duration
	for _, c := range clients {
		if c.err != nil {
			return c.err
		}
		all = append(all, c.latencies...)
	}
	if len(all) == 0 {
		return errors.New("no request was made")
	}
	slices.Sort(all)
	at := func(share float64) int64 {
		return all[min(int(share*float64(len(all))), len(all)-1)].Microseconds()
	}
	fmt.Printf("%.0f %d %d %d %d %d\n", float64(len(all))/took.Seconds(), at(0.5), at(0.9), at(0.99), at(1), len(all))
	return nil
}

type client struct {
	connection net.Conn
	in         *bufio.Reader
	ask        []byte
	status     int
	expected   []byte
	body       []byte
	latencies  []time.Duration
	err        error
}

func newClient(host string, ask []byte, status int, expected []byte) (*client, error) {
	connection, err := net.DialTimeout("tcp", host, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &client{connection: connection, in: bufio.NewReaderSize(connection, 8192), ask: ask, status: status, expected: expected}, nil
}

func (c *client) work(deadline time.Time, counted bool, count int) {
	defer c.connection.Close()
	for n := 0; ; n++ {
		begun := time.Now()
		if counted && n == count || !counted && begun.After(deadline) {
			return
		}
		if c.err = c.once(); c.err != nil {
			return
		}
		c.latencies = append(c.latencies, time.Since(begun))
	}
}

// once makes one request and checks its answer.
func (c *client) once() error {
	if _, err := c.connection.Write(c.ask); err != nil {
		return err
	}
	status, err := c.answer()
	if err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	if status != c.status {
		return fmt.Errorf("status %d instead of %d, with the body %q", status, c.status, c.body)
	}
	if len(c.expected) == 0 {
		if len(c.body) == 0 {
			return errors.New("the first answer has no body, so there is nothing to compare the others with")
		}
		c.expected = bytes.Clone(c.body)
	}
	if !bytes.Equal(c.body, c.expected) {
		return fmt.Errorf("the body is %q instead of %q", c.body, c.expected)
	}
	return nil
}

// answer reads one response: its status, and its body into c.body.
func (c *client) answer() (int, error) {
	line, err := c.line()
	if err != nil {
		return 0, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, fmt.Errorf("no status line: %q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, err
	}
	length, chunked := -1, false
	for {
		line, err := c.line()
		if err != nil {
			return 0, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(strings.TrimSpace(string(value))); err != nil {
				return 0, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		}
	}
	c.body = c.body[:0]
	if !chunked {
		if length < 0 {
			return 0, errors.New("an answer without length")
		}
		return status, c.take(length)
	}
	for {
		line, err := c.line()
		if err != nil {
			return 0, err
		}
		size, err := strconv.ParseInt(string(line), 16, 32)
		if err != nil {
			return 0, err
		}
		if err := c.take(int(size)); err != nil {
			return 0, err
		}
		if line, err := c.line(); err != nil || len(line) > 0 {
			return 0, errors.Join(err, errors.New("a chunk without its end"))
		}
		if size == 0 {
			return status, nil
		}
	}
}

func (c *client) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}

func (c *client) take(n int) error {
	at := len(c.body)
	c.body = slices.Grow(c.body, n)[:at+n]
	_, err := io.ReadFull(c.in, c.body[at:])
	return err
}
