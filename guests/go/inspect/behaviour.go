package main

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// behaviours names every query parameter that inspect understands.
const behaviours = "sleep=300ms work=1000 exit=3 panic=1 loop=1 recurse=1 alloc=BYTES stderr=LINES badstatus=99 " +
	"raw=BASE64URL rawexit=N read=/path write=/path list=/path"

// behaviour is what the query asks for. Zero values ask for nothing, except that exit codes are pointers: exit=0 is a wish too.
type behaviour struct {
	stderr             int
	sleep              time.Duration
	work, alloc        int
	write, read, list  string
	raw                []byte
	rawExit, exit      *int
	status             int
	panic, loop, recur bool
}

// parseBehaviour turns the query into a behaviour, or says what is wrong with it.
func parseBehaviour(query url.Values) (*behaviour, error) {
	b := &behaviour{status: 200}
	for name := range query {
		value, _, err := single(query, name)
		if err != nil {
			return nil, err
		}
		switch name {
		case "sleep":
			b.sleep, err = time.ParseDuration(value)
		case "work":
			b.work, err = count(value)
		case "exit":
			b.exit, err = exitCode(value)
		case "rawexit":
			b.rawExit, err = exitCode(value)
		case "panic":
			b.panic, err = strconv.ParseBool(value)
		case "loop":
			b.loop, err = strconv.ParseBool(value)
		case "recurse":
			b.recur, err = strconv.ParseBool(value)
		case "alloc":
			b.alloc, err = count(value)
		case "stderr":
			b.stderr, err = count(value)
		case "badstatus":
			b.status, err = strconv.Atoi(value)
		case "raw":
			b.raw, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(value, "="))
			if b.raw == nil {
				b.raw = []byte{}
			}
		case "read":
			b.read = value
		case "write":
			b.write = value
		case "list":
			b.list = value
		}
		// Parameters that are not in the list are part of a test's own URI.
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if b.rawExit != nil && b.raw == nil {
		return nil, fmt.Errorf("rawexit needs raw beside it; exit=N ends without output")
	}
	return b, nil
}

// perform does what was asked, in the order of the lines below, and notes in rep what can be reported.
// Some of it never returns.
func (b *behaviour) perform(rep *report) error {
	for line := range b.stderr {
		fmt.Fprintf(os.Stderr, "inspect: line %d of %d\n", line+1, b.stderr)
	}
	if b.sleep > 0 {
		start := time.Now()
		time.Sleep(b.sleep)
		rep.SleptNano = int64(time.Since(start))
	}
	for range b.work {
		sum = sha256.Sum256(sum[:])
	}
	if b.alloc > 0 {
		rep.Allocated = touch(b.alloc)
	}
	// Write comes first: one request can write a file, read it back and find it in the list.
	if b.write != "" {
		body, err := rep.Request.Bytes()
		if err != nil {
			return err
		}
		rep.Write = writeFile(b.write, body)
	}
	if b.read != "" {
		rep.Read = readFile(b.read)
	}
	if b.list != "" {
		rep.List = listFolder(b.list)
	}
	if b.panic {
		panic("inspect: asked to panic")
	}
	if b.recur {
		fmt.Fprintln(os.Stderr, "inspect: depth", recurse(1))
	}
	for b.loop {
		spins++
	}
	if b.raw != nil {
		if _, err := os.Stdout.Write(b.raw); err != nil {
			return err
		}
		code := 0
		if b.rawExit != nil {
			code = *b.rawExit
		}
		os.Exit(code)
	}
	if b.exit != nil {
		os.Exit(*b.exit)
	}
	return nil
}

// touch allocates n bytes and writes to each 4 KiB page of them.
func touch(n int) int {
	block := make([]byte, n)
	for at := 0; at < n; at += 4096 {
		block[at] = 1
	}
	kept = block
	return len(block)
}

// recurse calls itself until Go's runtime or the host's limit ends it. Frames are large, as growing a stack costs by the frame:
// at 4 KiB each the memory limit is met at once, at a few words each it takes seconds.
func recurse(depth int) int {
	var frame [4096]byte
	frame[depth%len(frame)] = 1
	if depth == 0 {
		return 0
	}
	return recurse(depth+1) + int(frame[(depth+1)%len(frame)])
}

func exitCode(value string) (*int, error) {
	code, err := strconv.Atoi(value)
	return &code, err
}

func count(value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err == nil && n < 0 {
		err = fmt.Errorf("%d is below zero", n)
	}
	return n, err
}

// Package variables, so that the compiler removes neither the loops nor the allocation.
var (
	sum   [sha256.Size]byte
	spins int
	kept  []byte
)
