// This file writes bodies for which there is no memory to files.

package gojinn

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
)

// spool bounds how much is in files.
type spool struct {
	room atomic.Int64
}

// spoolFactor is how many times max_memory may be in files.
const spoolFactor = 4

var errSpoolFull = errors.New("the files for bodies that memory has no room for are full too: four times max_memory")

// spooled is a body in a file without a name, which the system removes when it is closed, or when the process ends.
type spooled struct {
	file  *os.File
	size  int64
	spool *spool
}

// open makes an empty file.
func (s *spool) open() (*spooled, error) {
	dir, err := spoolDirectory()
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(dir, "gojinn-body-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, err
	}
	return &spooled{file: file, spool: s}, nil
}

// spoolDirectory returns the directory for temporary files, or Caddy's data directory if that one is in memory.
func spoolDirectory() (string, error) {
	dir := os.TempDir()
	if !inMemory(dir) {
		return dir, nil
	}
	dir = filepath.Join(caddy.AppDataDir(), "gojinn")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if inMemory(dir) {
		return "", fmt.Errorf("both %s and %s are file systems in memory", os.TempDir(), dir)
	}
	return dir, nil
}

// Write implements io.Writer.
func (s *spooled) Write(b []byte) (int, error) {
	if s.spool.room.Add(-int64(len(b))) < 0 {
		s.spool.room.Add(int64(len(b)))
		return 0, errSpoolFull
	}
	s.size += int64(len(b))
	return s.file.Write(b)
}

// rewind makes the next read begin at the start.
func (s *spooled) rewind() error {
	_, err := s.file.Seek(0, io.SeekStart)
	return err
}

// close removes the file. It may be called on nil, and twice.
func (s *spooled) close() {
	if s != nil && s.file != nil {
		s.file.Close()
		s.file = nil
		s.spool.room.Add(s.size)
	}
}
