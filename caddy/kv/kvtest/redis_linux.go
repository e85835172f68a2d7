// This file starts the Redis server of tests.

package kvtest

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// RedisServer is a redis-server with a socket in a directory of the test.
type RedisServer struct {
	// Dir is the directory, and Socket the path of the socket.
	Dir, Socket string

	t       testing.TB
	process *exec.Cmd
}

// StartRedis starts a server, which keeps each write on the disk. Without redis-server the test is skipped, but never in CI.
func StartRedis(t testing.TB) *RedisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is missing, and CI tests the store with it: scripts/tools installs it")
		}
		t.Skip("redis-server is not installed, so the store redis is not tested; Debian: apt-get install redis-server")
	}
	// The path of a socket is short.
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	s := &RedisServer{t: t, Dir: dir, Socket: filepath.Join(dir, "socket")}
	t.Cleanup(func() {
		s.Stop()
		os.RemoveAll(dir)
	})
	s.Start()
	return s
}

// URL names the server.
func (s *RedisServer) URL() string { return "unix://" + s.Socket }

// Start starts the server again, with its data.
func (s *RedisServer) Start() {
	s.t.Helper()
	s.process = exec.Command("redis-server", "--port", "0", "--unixsocket", s.Socket, "--dir", s.Dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no")
	// The server ends with the test, even if the test is killed.
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	for start := time.Now(); !s.answers(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			s.t.Fatal("redis-server does not answer")
		}
	}
}

func (s *RedisServer) answers() bool {
	conn, err := net.Dial("unix", s.Socket)
	if err != nil {
		return false
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "+PONG")
}

// Stop kills the server.
func (s *RedisServer) Stop() {
	if s.process != nil {
		s.process.Process.Kill()
		s.process.Wait()
		s.process = nil
	}
}
