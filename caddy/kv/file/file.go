// Package file is the key-value store `file`: one file on this machine, which a crash does not damage.
package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/pauloappbr/gojinn/caddy/kv"
)

func init() {
	caddy.RegisterModule(new(File))
}

// File keeps values in one file. What was written is on the disk before the function goes on, so that neither a crash of Caddy nor
// a power failure loses it. One process at a time can have the file open.
type File struct {
	// Path is the file, relative to the process's working directory. Placeholders that do not depend on a request may be used.
	// Default: `gojinn/kv/<name>.db` in Caddy's data directory.
	Path string `json:"path,omitempty"`

	// MaxSize is how large the content of the file may become, in bytes. In a full store nothing can be set, but keys can be
	// deleted. Default: 1073741824 (1 GiB).
	MaxSize int64 `json:"max_size,omitempty"`

	path string
}

const (
	defaultMaxSize = 1 << 30
	// minMaxSize lets some of the largest values in.
	minMaxSize = 4 * kv.MaxValue
	maxMaxSize = 1 << 44
)

// CaddyModule returns the Caddy module information.
func (*File) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: kv.Namespace + ".file", New: func() caddy.Module { return new(File) }}
}

// UnmarshalCaddyfile reads
//
//	file [<path>] {
//		max_size <size>
//	}
func (f *File) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		if f.Path = d.Val(); f.Path == "" {
			return d.Err("the path of the store is empty; leave it out for a file in Caddy's data directory")
		}
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "max_size" {
			return d.Errf("unknown option %q of the store file; known is max_size", d.Val())
		}
		var text string
		if !d.AllArgs(&text) {
			return d.ArgErr()
		}
		if f.MaxSize != 0 {
			return d.Err("max_size is given twice")
		}
		n, err := humanize.ParseBytes(text)
		if err != nil {
			return d.Errf("max_size %q is not a size; write for example 1GiB", text)
		}
		f.MaxSize = int64(min(n, maxMaxSize+1))
		if err := f.check(); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

// Provision implements caddy.Provisioner.
func (f *File) Provision(caddy.Context) error {
	if f.MaxSize == 0 {
		f.MaxSize = defaultMaxSize
	}
	if f.Path != "" {
		path, err := caddy.NewReplacer().ReplaceOrErr(f.Path, true, true)
		if err != nil {
			return fmt.Errorf("the path %s of a store: %w; it cannot depend on a request", f.Path, err)
		}
		if f.path, err = filepath.Abs(path); err != nil {
			return err
		}
	}
	return f.check()
}

func (f *File) check() error {
	if f.MaxSize < minMaxSize || f.MaxSize > maxMaxSize {
		return fmt.Errorf("max_size is %d bytes, want at least %d and at most 16 TiB", f.MaxSize, minMaxSize)
	}
	return nil
}

func (f *File) file(name string) string {
	if f.path == "" {
		return filepath.Join(caddy.AppDataDir(), "gojinn", "kv", name+".db")
	}
	return f.path
}

// Adjust implements kv.Adjuster.
func (f *File) Adjust(open kv.Store) { open.(*store).most.Store(f.MaxSize) }

// Key implements kv.Module. The bound is no part of it, because a file can be opened once only.
func (f *File) Key(name string) string { return f.file(name) }

// lockTimeout is how long Open waits for another process to close the file. A Caddy that is replaced by another one takes a moment.
const lockTimeout = 3 * time.Second

// Open implements kv.Module.
func (f *File) Open(name string) (kv.Store, error) {
	path := f.file(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s is open in another process, which only one can have at a time; use the store redis or nats for several", path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		return nil, fmt.Errorf("%s is not a file of a store: %w; name another file", path, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{valuesBucket, timesBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), db.Close())
	}
	return newStore(db, f.MaxSize), nil
}

// Interface guards
var (
	_ caddy.Provisioner     = (*File)(nil)
	_ caddyfile.Unmarshaler = (*File)(nil)
	_ kv.Adjuster           = (*File)(nil)
	_ kv.Module             = (*File)(nil)
)
