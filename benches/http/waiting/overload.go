package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// reply is how one request was answered.
type reply struct {
	status int
	at     time.Time
	took   time.Duration
}

// client has connections to a Caddy, for requests to one path. It writes and reads by itself, because it shares the machine with the
// server, and net/http's client needs more time than a refusal.
type client struct {
	addr string
	ask  []byte

	mu      sync.Mutex
	idle    []*connection
	replies []reply
	err     error
}

type connection struct {
	net.Conn
	in *bufio.Reader
}

func (c *caddy) requests(path string) *client {
	return &client{addr: c.addr, ask: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, c.addr)}
}

// once makes one request, on a connection that is idle or on a new one, and notes its reply.
func (c *client) once() {
	begun := time.Now()
	status, err := c.exchange()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.err = errors.Join(c.err, err)
	}
	c.replies = append(c.replies, reply{status, time.Now(), time.Since(begun)})
}

func (c *client) exchange() (status int, err error) {
	var conn *connection
	c.mu.Lock()
	if last := len(c.idle) - 1; last >= 0 {
		conn, c.idle = c.idle[last], c.idle[:last]
	}
	c.mu.Unlock()
	if conn == nil {
		dialled, err := net.Dial("tcp", c.addr)
		if err != nil {
			return 0, err
		}
		conn = &connection{dialled, bufio.NewReader(dialled)}
	}
	if _, err := conn.Write(c.ask); err != nil {
		return 0, err
	}
	line, err := conn.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 {
		return 0, fmt.Errorf("the answer begins with %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, err
	}
	length, after := 0, false
	for {
		line, err := conn.in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, err
			}
		}
		after = after || bytes.HasPrefix(line, []byte("Retry-After: "))
	}
	if _, err := io.CopyN(io.Discard, conn.in, int64(length)); err != nil {
		return 0, err
	}
	if status != http.StatusOK && (status != http.StatusServiceUnavailable || !after) {
		return status, fmt.Errorf("status %d, with Retry-After: %v", status, after)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, conn)
	return status, nil
}

// take returns the replies since it was called last, and closes the connections.
func (c *client) take() ([]reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.idle {
		conn.Close()
	}
	c.idle = nil
	replies := c.replies
	c.replies = nil
	return replies, c.err
}

// closed makes requests one after the other, so many at once.
func (c *client) closed(at int, duration time.Duration) {
	var all sync.WaitGroup
	for begun := time.Now(); at > 0; at-- {
		all.Go(func() {
			for time.Since(begun) < duration {
				c.once()
			}
		})
	}
	all.Wait()
}

// open makes so many requests a second, whether or not the ones before are answered. wait waits for the last answers.
func (c *client) open(rate float64, duration time.Duration) (wait func()) {
	var all sync.WaitGroup
	begun, made := time.Now(), 0
	for since := time.Duration(0); since < duration; since = time.Since(begun) {
		for ; made < int(rate*since.Seconds()); made++ {
			all.Go(c.once)
		}
		time.Sleep(500 * time.Microsecond)
	}
	return all.Wait
}

// good returns the replies with status 200, and those with another.
func good(replies []reply) (good, refused []reply) {
	for _, r := range replies {
		if r.status == http.StatusOK {
			good = append(good, r)
		} else {
			refused = append(refused, r)
		}
	}
	return good, refused
}

// spread is some percentiles of how long replies took.
func spread(replies []reply) string {
	if len(replies) == 0 {
		return "none"
	}
	return fmt.Sprintf("p50 %s, p99 %s, longest %s", percentile(replies, 50), percentile(replies, 99), percentile(replies, 100))
}

func percentile(replies []reply, percent int) time.Duration {
	sorted := slices.SortedFunc(slices.Values(replies), func(a, b reply) int { return int(a.took - b.took) })
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)].took.Round(10 * time.Microsecond)
}

// beside makes 50 requests a second to a light function and for a file, until it is ended.
func (c *caddy) beside() (end func() (string, error)) {
	clients := []*client{c.requests("/light"), c.requests("/small")}
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, one := range clients {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(20 * time.Millisecond):
					one.once()
				}
			}
		})
	}
	return func() (string, error) {
		close(done)
		all.Wait()
		text := ""
		for i, name := range []string{"a light function", "; a file"} {
			replies, err := clients[i].take()
			if err != nil {
				return "", err
			}
			good, refused := good(replies)
			text += fmt.Sprintf("%s: %d of %d answered, %s", name, len(good), len(good)+len(refused), spread(good))
		}
		return text, nil
	}
}

// recovered makes one request after the other until, for a second, all are answered as fast as usual, and returns when that second
// began.
func (c *caddy) recovered(path string, usual time.Duration) (time.Time, error) {
	probe := c.requests(path)
	calm := time.Now()
	for time.Since(calm) < time.Second {
		probe.once()
		if last := probe.replies[len(probe.replies)-1]; last.status != http.StatusOK || last.took > usual {
			calm = last.at
		}
	}
	_, err := probe.take()
	return calm, err
}

// overload: functions that compute, asked for three times as much as they can do.
func overload(c *caddy) error {
	const duration = 10 * time.Second
	end := c.beside()
	time.Sleep(duration / 2)
	text, err := end()
	if err != nil {
		return err
	}
	row("beside, with nothing else", "%s", text)
	paths := []string{fmt.Sprintf("/busy?work=%d", *work), fmt.Sprintf("/busier?work=%d", 20**work)}
	capacity := make([]float64, len(paths))
	for i, path := range paths {
		one := c.requests(path)
		one.closed(16, time.Second)
		if _, err := one.take(); err != nil {
			return err
		}
		end := c.beside()
		one.closed(16, duration)
		replies, err := one.take()
		if err != nil {
			return err
		}
		text, err := end()
		if err != nil {
			return err
		}
		peak, _ := good(replies)
		capacity[i] = float64(len(peak)) / duration.Seconds()
		row(path+", as much as it can", "%.0f/s, %s", capacity[i], spread(peak))
		row("beside", "%s", text)

		end = c.beside()
		wait := one.open(3*capacity[i], duration)
		ended := time.Now()
		calm, err := c.recovered(path, percentile(peak, 50))
		if err != nil {
			return err
		}
		wait()
		if replies, err = one.take(); err != nil {
			return err
		}
		if text, err = end(); err != nil {
			return err
		}
		answered, refused := good(replies)
		// Those of the queue at the end are answered later.
		inTime := len(slices.DeleteFunc(slices.Clone(answered), func(r reply) bool { return r.at.After(ended) }))
		rate := float64(inTime) / duration.Seconds()
		row("three times as much", "%d requests; %.0f/s answered, %.0f%% of the peak, %s", len(replies), rate, 100*rate/capacity[i], spread(answered))
		row("refused", "%d, %s", len(refused), spread(refused))
		row("beside", "%s", text)
		row("afterwards", "as ever %d ms after the last of these requests", calm.Sub(ended).Milliseconds())
	}

	both := []*client{c.requests(paths[0]), c.requests(paths[1])}
	end = c.beside()
	var all sync.WaitGroup
	for i, one := range both {
		all.Go(func() { one.open(3*capacity[i], duration)() })
	}
	all.Wait()
	if text, err = end(); err != nil {
		return err
	}
	for i, one := range both {
		replies, err := one.take()
		if err != nil {
			return err
		}
		answered, refused := good(replies)
		row(paths[i]+", beside the other one, both three times", "%.0f%% of its peak; refused %d, %s",
			100*float64(len(answered))/duration.Seconds()/capacity[i], len(refused), spread(refused))
	}
	row("beside", "%s", text)
	return nil
}
