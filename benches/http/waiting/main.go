// Command waiting measures a Caddy whose functions wait and stream: many at once, and bodies of a gibibyte; and one whose functions are
// asked for more than they can do.
//
//	go run . [-caddy FILE] [-guests DIRECTORY] [-backend NAME] [-n 5000] [-events 10] [-work 2000] [-only NAME]
//
// It starts Caddy, checks the status and the body of every response, and prints a table. CPU time, threads and memory are those of
// Caddy's process. The client shares the machine with it.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	caddyFile = flag.String("caddy", "../../../bin/caddy", "Caddy with the plugin")
	guests    = flag.String("guests", "../../../guests/build", "the directory of the built guests")
	backend   = flag.String("backend", "wasmtime", "the engine")
	n         = flag.Int("n", 5000, "how many requests at once")
	events    = flag.Int("events", 10, "how many events each stream has, one a second")
	work      = flag.Int("work", 2000, "how much the lighter of the two busy functions computes: so many hashes")
	only      = flag.String("only", "", "one of the measurements: sleep, events, stalled, gone, download, upload, reload, overload, mix")
)

const gibibyte = 1 << 30

const caddyfile = `{
	admin ADMIN
	skip_install_trust
	auto_https off
	gojinn {
		backend BACKEND
		cache DIR/cache
	}
	metrics
	log {
		output file DIR/log
		level ERROR
	}
	grace_period 1h
}
http://ADDR {
	handle /sleep {
		gojinn {
			module GUESTS/go-inspect.wasm
			name sleep
		}
	}
	handle /busy {
		gojinn {
			module GUESTS/go-inspect.wasm
			name busy
		}
	}
	handle /busier {
		gojinn {
			module GUESTS/go-inspect.wasm
			name busier
		}
	}
	handle /light {
		gojinn {
			module GUESTS/../c/hello/hello.wasm
			name light
		}
	}
	handle /small {
		root * DIR
		file_server
	}
	handle /long {
		gojinn {
			module DIR/long.js
		}
	}
	handle /short {
		gojinn {
			module DIR/short.js
		}
	}
	handle /file {
		root * DIR
		file_server
	}
	handle_path /c/* {
		gojinn {
			module GUESTS/../c/cgi/cgi.wasm
			contract cgi
			max_body 2GB
		}
	}
	handle {
		gojinn {
			module GUESTS/go-cgi.wasm
			name cgi
			contract cgi
			max_body 2GB
			timeout 10m
		}
	}
	# VERSION
}
`

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	c, err := start()
	if err != nil {
		return err
	}
	defer c.stop()
	fmt.Printf("%s, %d at once; Caddy has %s\n\n| measurement | result |\n|---|---|\n", *backend, *n, c.usage())
	for _, m := range []struct {
		name string
		run  func(*caddy) error
	}{{"sleep", sleep}, {"events", sse}, {"stalled", stalled}, {"gone", gone}, {"download", download}, {"upload", upload}, {"reload", reload}, {"overload", overload}, {"mix", mix}} {
		if *only != "" && *only != m.name {
			continue
		}
		if err := m.run(c); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if err := c.idle(); err != nil {
			return fmt.Errorf("after %s: %w", m.name, err)
		}
	}
	return nil
}

func row(name, format string, values ...any) {
	fmt.Printf("| %s | %s |\n", name, fmt.Sprintf(format, values...))
}

// caddy is a running Caddy.
type caddy struct {
	cmd         *exec.Cmd
	dir         string
	addr, admin string
	config      string
	client      *http.Client
	ended       chan struct{}
}

func start() (*caddy, error) {
	dir, err := os.MkdirTemp("", "gojinn-waiting")
	if err != nil {
		return nil, err
	}
	directory, err := filepath.Abs(*guests)
	if err != nil {
		return nil, err
	}
	c := &caddy{dir: dir, addr: free(), admin: free(), ended: make(chan struct{})}
	c.config = strings.NewReplacer("ADDR", c.addr, "ADMIN", c.admin, "DIR", dir, "GUESTS", directory, "BACKEND", *backend).Replace(caddyfile)
	for name, milliseconds := range map[string]float64{"long": 5, "short": 0.2} {
		script := fmt.Sprintf("export default () => {\n  const end = performance.now() + %g;\n  while (performance.now() < end);\n  return new Response(%q);\n};\n",
			milliseconds, name)
		if err := os.WriteFile(filepath.Join(dir, name+".js"), []byte(script), 0o644); err != nil {
			return nil, err
		}
	}
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(c.config), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "small"), bytes.Repeat([]byte("small "), 100), 0o644); err != nil {
		return nil, err
	}
	c.client = &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: *n}}
	c.cmd = exec.Command(*caddyFile, "run", "--config", file)
	c.cmd.Stderr = os.Stderr
	c.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.ended)
	}()
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		select {
		case <-c.ended:
			return nil, errors.New("Caddy has ended")
		default:
		}
		if body, err := c.get("/"); err == nil && strings.HasPrefix(body, "Hello ") {
			return c, nil
		}
	}
	c.stop()
	return nil, errors.New("Caddy does not answer")
}

func (c *caddy) stop() {
	_ = c.cmd.Process.Kill()
	<-c.ended
	_ = os.RemoveAll(c.dir)
}

func free() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// get returns the whole body of a response that must be 200.
func (c *caddy) get(path string) (string, error) {
	res, err := c.client.Get("http://" + c.addr + path)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != 200 {
		err = fmt.Errorf("status %d: %.100q", res.StatusCode, body)
	}
	return string(body), err
}

// usage is what a process uses.
type usage struct {
	threads  int
	rss, pss int64
	cpu      time.Duration
	files    int
}

func (u usage) String() string {
	return fmt.Sprintf("%d threads, %.0f MiB (PSS)", u.threads, float64(u.pss)/(1<<20))
}

func (c *caddy) usage() (u usage) {
	proc := fmt.Sprintf("/proc/%d/", c.cmd.Process.Pid)
	field := func(file, name string) int64 {
		text, _ := os.ReadFile(proc + file)
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, name+":"); ok {
				number, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				return number
			}
		}
		return 0
	}
	u.threads = int(field("status", "Threads"))
	u.rss, u.pss = field("status", "VmRSS")<<10, field("smaps_rollup", "Pss")<<10
	text, _ := os.ReadFile(proc + "stat")
	if _, rest, ok := strings.Cut(string(text), ") "); ok {
		fields := strings.Fields(rest)
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		u.cpu = time.Duration(user+system) * 10 * time.Millisecond
	}
	entries, _ := os.ReadDir(proc + "fd")
	u.files = len(entries)
	return u
}

// watch returns the most threads and memory until it is called again.
//
// The kernel walks through all mappings for the PSS, and lets none be changed meanwhile. Each time that takes a while with thousands of
// sandboxes, so it is a small part of the time only, and a peak that is shorter may be missed.
func (c *caddy) watch() (end func() usage) {
	var most usage
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			begun := time.Now()
			u := c.usage()
			pause := max(200*time.Millisecond, 20*time.Since(begun))
			most.threads, most.rss, most.pss = max(most.threads, u.threads), max(most.rss, u.rss), max(most.pss, u.pss)
			select {
			case <-done:
				return
			case <-time.After(pause):
			}
		}
	}()
	return func() usage { close(done); <-ended; return most }
}

// active is how many sandboxes there are.
func (c *caddy) active() (int, error) {
	res, err := http.Get("http://" + c.admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	sum := 0
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "gojinn_active_sandboxes{") {
			number, err := strconv.Atoi(lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:])
			if err != nil {
				return 0, err
			}
			sum += number
		}
	}
	return sum, nil
}

// idle waits until no sandbox is there.
func (c *caddy) idle() error {
	c.client.CloseIdleConnections()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if active, err := c.active(); err != nil || active == 0 {
			return err
		}
	}
	return errors.New("sandboxes are left")
}

// together runs f so many times at once, and returns the first error.
func together(n int, f func(i int) error) error {
	var all sync.WaitGroup
	var failures atomic.Int64
	first := make(chan error, 1)
	for i := range n {
		all.Go(func() {
			if err := f(i); err != nil {
				failures.Add(1)
				select {
				case first <- err:
				default:
				}
			}
		})
	}
	all.Wait()
	if failures.Load() > 0 {
		return fmt.Errorf("%d of %d failed, the first with: %w", failures.Load(), n, <-first)
	}
	return nil
}

// sleep: requests to a Go function that sleeps for a second, all at once.
func sleep(c *caddy) error {
	const long = time.Second
	before, watched, begun := c.usage(), c.watch(), time.Now()
	// By then most of them sleep, if the machine can start them in time.
	pss := make(chan int64, 1)
	time.AfterFunc(3*long, func() { pss <- c.usage().pss })
	err := together(*n, func(int) error {
		body, err := c.get("/sleep?sleep=" + long.String())
		if err != nil {
			return err
		}
		_, rest, _ := strings.Cut(body, `"slept_nano": `)
		digits, _, _ := strings.Cut(rest, "\n")
		if slept, err := strconv.ParseInt(strings.Trim(digits, ", "), 10, 64); err != nil || slept < long.Nanoseconds() {
			return fmt.Errorf("body %q", body)
		}
		return nil
	})
	took, most := time.Since(begun), watched()
	if err != nil {
		return err
	}
	row("requests to a function that sleeps 1 s", "all 200 in %.1f s, at most %d threads, %.0f KiB each (PSS)",
		took.Seconds(), most.threads, float64(max(most.pss, <-pss)-before.pss)/1024/float64(*n))
	return nil
}

// sse: streams of events, one a second.
func sse(c *caddy) error {
	before, watched, begun := c.usage(), c.watch(), time.Now()
	err := together(*n, func(int) error {
		res, err := c.client.Get(fmt.Sprintf("http://%s/events?n=%d&ms=1000", c.addr, *events))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		for i := 1; i <= *events; i++ {
			if want := fmt.Sprintf("data: %d", i); !lines.Scan() || lines.Text() != want || !lines.Scan() {
				return fmt.Errorf("status %d, %q instead of %q", res.StatusCode, lines.Text(), want)
			}
		}
		if lines.Scan() {
			return fmt.Errorf("%q after the end", lines.Text())
		}
		return lines.Err()
	})
	most := watched()
	if err != nil {
		return err
	}
	row("streams of events, one a second", "%d events each in order in %.1f s, at most %d threads, %.0f KiB each (PSS), %.0f µs of CPU for an event, starts included",
		*events, time.Since(begun).Seconds(), most.threads, float64(most.pss-before.pss)/1024/float64(*n),
		float64((c.usage().cpu-before.cpu).Microseconds())/float64(*n**events))
	return nil
}

// hold opens streams, reads the first bytes of each, and returns how much memory each takes while no more is read.
func (c *caddy) hold(ctx context.Context, n int, path string) (float64, error) {
	if err := c.collect(); err != nil {
		return 0, err
	}
	before := c.usage()
	err := together(n, func(int) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.addr+path, http.NoBody)
		if err != nil {
			return err
		}
		res, err := c.client.Do(r)
		if err != nil {
			return err
		}
		if res.StatusCode != 200 {
			return fmt.Errorf("status %d", res.StatusCode)
		}
		_, err = io.ReadFull(res.Body, make([]byte, 6))
		return err
	})
	if err != nil {
		return 0, err
	}
	// The functions write until nothing more is taken; then their Caddy uses no time.
	for used := c.usage().cpu; ; {
		time.Sleep(500 * time.Millisecond)
		now := c.usage().cpu
		if now-used < 50*time.Millisecond {
			break
		}
		used = now
	}
	if err := c.collect(); err != nil {
		return 0, err
	}
	return float64(c.usage().pss-before.pss) / 1024 / float64(n), nil
}

// collect has Caddy collect its garbage, twice: the second time frees what its pools kept.
func (c *caddy) collect() error {
	for range 2 {
		res, err := http.Get("http://" + c.admin + "/debug/pprof/heap?gc=1")
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// stalled: clients that stop reading, against clients that wait for an event.
func stalled(c *caddy) error {
	const n = 200
	// The first time, what stays for later requests is counted as well.
	var each [3]float64
	event := "/events?n=2&ms=3600000"
	for i, path := range []string{event, event, fmt.Sprintf("/bytes?n=%d", gibibyte)} {
		ctx, cancel := context.WithCancel(context.Background())
		var err error
		each[i], err = c.hold(ctx, n, path)
		cancel()
		if err != nil {
			return err
		}
		if err := c.idle(); err != nil {
			return err
		}
	}
	row("200 clients that stop reading", "%.0f KiB each (PSS); %.0f KiB for one that waits for an event", each[2], each[1])
	return nil
}

// gone: clients that go, until their guests have ended.
func gone(c *caddy) error {
	const n = 200
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := c.hold(ctx, n, "/events?n=2&ms=3600000"); err != nil {
		cancel()
		return err
	}
	if active, err := c.active(); err != nil || active != n {
		cancel()
		return fmt.Errorf("%d of %d streams run, %w", active, n, err)
	}
	begun := time.Now()
	cancel()
	if err := c.idle(); err != nil {
		return err
	}
	row("200 clients go", "their guests have ended after %d ms", time.Since(begun).Milliseconds())
	return nil
}

// file makes a file of 1 GiB of zeros.
func (c *caddy) file() error {
	file, err := os.Create(filepath.Join(c.dir, "file"))
	if err != nil {
		return err
	}
	return errors.Join(file.Truncate(gibibyte), file.Close())
}

// counted checks that so many bytes come, all of them zero.
func (c *caddy) counted(path string) error {
	res, err := c.client.Get("http://" + c.addr + path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	part, zero := make([]byte, 256<<10), make([]byte, 256<<10)
	sum := 0
	for {
		n, err := res.Body.Read(part)
		if sum += n; !bytes.Equal(part[:n], zero[:n]) {
			return errors.New("a byte is not zero")
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if res.StatusCode != 200 || sum != gibibyte {
		return fmt.Errorf("status %d, %d bytes", res.StatusCode, sum)
	}
	return nil
}

// download: 1 GiB that a function writes, and that file_server sends, in turns.
func download(c *caddy) error {
	if err := c.file(); err != nil {
		return err
	}
	var cpu [2]time.Duration
	var most [2]usage
	before := c.usage()
	for range 3 {
		for i, path := range []string{fmt.Sprintf("/bytes?n=%d", gibibyte), "/file"} {
			watched, from := c.watch(), c.usage().cpu
			if err := c.counted(path); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			cpu[i] += (c.usage().cpu - from) / 3
			most[i].rss = max(most[i].rss, watched().rss)
		}
	}
	row("1 GiB from a function", "%.2f s of CPU, and %.2f s for file_server: %.2f of its speed; memory grows by %d MiB at most",
		cpu[0].Seconds(), cpu[1].Seconds(), cpu[1].Seconds()/cpu[0].Seconds(), (most[0].rss-before.rss)>>20)
	return nil
}

// zeros are so many bytes.
type zeros int64

func (z *zeros) Read(p []byte) (int, error) {
	if *z == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), int64(*z))
	clear(p[:n])
	*z -= zeros(n)
	return int(n), nil
}

// upload: 1 GiB that a function counts, against as much from file_server.
func upload(c *caddy) error {
	if err := c.file(); err != nil {
		return err
	}
	before := c.usage()
	if err := c.counted("/file"); err != nil {
		return err
	}
	download := c.usage().cpu - before.cpu
	for _, to := range []struct{ path, answer, what string }{
		{"/c/count", fmt.Sprintf("%d\n", gibibyte), "counts it, in C"},
		{"/count", fmt.Sprintf("{\"bytes\":%d,", gibibyte), "hashes it, in Go"},
	} {
		watched, before := c.watch(), c.usage()
		body := zeros(gibibyte)
		r, err := http.NewRequest(http.MethodPost, "http://"+c.addr+to.path, &body)
		if err != nil {
			return err
		}
		r.ContentLength = gibibyte
		res, err := c.client.Do(r)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || !strings.HasPrefix(string(text), to.answer) {
			return fmt.Errorf("%s: status %d, %.100q, %w", to.path, res.StatusCode, text, err)
		}
		cpu := c.usage().cpu - before.cpu
		row("1 GiB to a function that "+to.what, "%.2f s of CPU, %.2f of the speed of file_server's 1 GiB; memory grows by %d MiB at most",
			cpu.Seconds(), download.Seconds()/cpu.Seconds(), (watched().rss-before.rss)>>20)
	}
	return nil
}

// reload: configs are loaded while streams run. None is cut, and nothing is left afterwards.
func reload(c *caddy) error {
	const streams, reloads = 200, 1000
	before := c.usage()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var began, cut atomic.Int64
	var all sync.WaitGroup
	for range streams {
		all.Go(func() {
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.addr+"/events?n=1000000&ms=100", http.NoBody)
			res, err := c.client.Do(r)
			if err != nil {
				cut.Add(1)
				return
			}
			defer res.Body.Close()
			lines := bufio.NewScanner(res.Body)
			for i := 1; lines.Scan(); i++ {
				if lines.Text() != fmt.Sprintf("data: %d", i) || !lines.Scan() {
					break
				}
				if i == 1 {
					began.Add(1)
				}
			}
			if ctx.Err() == nil {
				cut.Add(1)
			}
		})
	}
	for began.Load() < streams && cut.Load() == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	begun := time.Now()
	for i := range reloads {
		config := strings.Replace(c.config, "# VERSION", "header X-Version "+strconv.Itoa(i), 1)
		res, err := http.Post("http://"+c.admin+"/load", "text/caddyfile", strings.NewReader(config))
		if err != nil {
			return err
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 {
			return fmt.Errorf("reload %d: %s", i, text)
		}
	}
	took := time.Since(begun)
	if cut.Load() > 0 {
		return fmt.Errorf("%d of %d streams were cut", cut.Load(), streams)
	}
	cancel()
	all.Wait()
	if err := c.idle(); err != nil {
		return err
	}
	http.DefaultClient.CloseIdleConnections()
	if err := c.collect(); err != nil {
		return err
	}
	var after usage
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if after = c.usage(); after.files <= before.files+2 {
			break
		}
	}
	row("1000 reloads while 200 streams run", "none was cut in %.0f s; open files %d before and %d after, %d and %d MiB (PSS), %d and %d threads",
		took.Seconds(), before.files, after.files, before.pss>>20, after.pss>>20, before.threads, after.threads)
	return nil
}

// mix: functions that compute for 5 ms beside functions that compute for 0.2 ms, from eight clients each.
func mix(c *caddy) error {
	const clients, runs = 8, 10 * time.Second
	var mu sync.Mutex
	took := map[string][]reply{}
	end := time.Now().Add(runs)
	err := together(2*clients, func(i int) error {
		name := [...]string{"long", "short"}[i%2]
		var own []reply
		for time.Now().Before(end) {
			begun := time.Now()
			body, err := c.get("/" + name)
			if err == nil && body != name {
				err = fmt.Errorf("body %q", body)
			}
			if err != nil {
				return err
			}
			own = append(own, reply{http.StatusOK, time.Now(), time.Since(begun)})
		}
		mu.Lock()
		defer mu.Unlock()
		took[name] = append(took[name], own...)
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"short", "long"} {
		all := took[name]
		p50, p99 := percentile(all, 50), percentile(all, 99)
		row("16 clients, a mix of functions of 5 ms and 0.2 ms: the "+name+" ones", "%d answers, p50 %.1f ms, p99 %.1f ms (%.1f times)",
			len(all), p50.Seconds()*1000, p99.Seconds()*1000, p99.Seconds()/p50.Seconds())
	}
	return nil
}
