// This file has the store itself: a tree of keys and values, and one goroutine that writes.

package file

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/pauloappbr/gojinn/caddy/kv"
)

// A value is stored behind the time at which the key is deleted: milliseconds since 1970 in 8 bytes, most significant first, or 0.
// timesBucket has an entry for each key that has such a time: the time and the key. So the keys whose time is over are at its
// beginning.
var (
	valuesBucket = []byte("values")
	timesBucket  = []byte("times")
)

const timeSize = 8

// store writes with one goroutine, which takes all writes that wait into one transaction: they are on the disk together, and ten
// clients wait no longer than one.
type store struct {
	db *bolt.DB
	// most is the bound of the content, in bytes.
	most    atomic.Int64
	writes  chan *write
	closing chan struct{}
	closed  chan struct{}
}

// write is an operation that waits for its transaction. An operation that fails must not have changed anything.
type write struct {
	run    func(tx *transaction) error
	failed error
	done   chan error
}

// transaction is what an operation writes to.
type transaction struct {
	values, times *bolt.Bucket
	now           int64
	full          bool
}

func newStore(db *bolt.DB, most int64) *store {
	s := &store{db: db, writes: make(chan *write), closing: make(chan struct{}), closed: make(chan struct{})}
	s.most.Store(most)
	go s.writeAll()
	return s
}

const (
	// maxBatch is how many writes are in one transaction.
	maxBatch = 256
	// maxExpired is how many keys whose time is over are deleted in one transaction.
	maxExpired = 256
)

// writeAll runs writes until the store is closed.
func (s *store) writeAll() {
	defer close(s.closed)
	batch := make([]*write, 0, maxBatch)
	for {
		batch = batch[:0]
		select {
		case w := <-s.writes:
			batch = append(batch, w)
		case <-s.closing:
			return
		}
		for more := true; more && len(batch) < maxBatch; {
			select {
			case w := <-s.writes:
				batch = append(batch, w)
			default:
				more = false
			}
		}
		err := s.db.Update(func(tx *bolt.Tx) error {
			t := &transaction{values: tx.Bucket(valuesBucket), times: tx.Bucket(timesBucket), now: time.Now().UnixMilli(), full: s.isFull(tx)}
			if err := t.expire(); err != nil {
				return err
			}
			for _, w := range batch {
				w.failed = w.run(t)
			}
			return nil
		})
		for _, w := range batch {
			if err != nil {
				w.failed = &kv.Failure{Text: "the store could not write to its file", Cause: err}
			}
			w.done <- w.failed
		}
	}
}

// isFull reports whether the file's content has reached its bound.
func (s *store) isFull(tx *bolt.Tx) bool {
	stats := s.db.Stats()
	free := int64(stats.FreePageN+stats.PendingPageN) * int64(s.db.Info().PageSize)
	return tx.Size()-free >= s.most.Load()
}

var (
	errFull   = errors.New("the store is full: it has as many bytes as its max_size")
	errClosed = errors.New("the store is closed, because the config has changed")
)

// write runs an operation in a transaction, and returns once it is on the disk.
func (s *store) write(ctx context.Context, run func(*transaction) error) error {
	w := &write{run: run, done: make(chan error, 1)}
	select {
	case s.writes <- w:
	case <-s.closing:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	// Once it is taken it is done within moments.
	return <-w.done
}

// read runs an operation that changes nothing.
func (s *store) read(ctx context.Context, run func(values *bolt.Bucket, now int64) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	failed := error(nil)
	err := s.db.View(func(tx *bolt.Tx) error {
		failed = run(tx.Bucket(valuesBucket), time.Now().UnixMilli())
		return nil
	})
	if err != nil {
		return &kv.Failure{Text: "the store could not read its file", Cause: err}
	}
	return failed
}

// live returns the value in a stored record, or nil if there is no record or its time is over.
func live(record []byte, now int64) []byte {
	if len(record) < timeSize {
		return nil
	}
	if at := int64(binary.BigEndian.Uint64(record)); at != 0 && at <= now {
		return nil
	}
	return record[timeSize:]
}

// get returns the value of a key, or nil. It is valid until the next change.
func (t *transaction) get(key string) []byte { return live(t.values.Get([]byte(key)), t.now) }

// put sets a key. It is deleted at a time in milliseconds, unless that is 0.
func (t *transaction) put(key string, value []byte, at int64) error {
	if t.full {
		return errFull
	}
	if err := t.forgetTime(key); err != nil {
		return err
	}
	record := make([]byte, timeSize+len(value))
	binary.BigEndian.PutUint64(record, uint64(at))
	copy(record[timeSize:], value)
	if err := t.values.Put([]byte(key), record); err != nil || at == 0 {
		return err
	}
	return t.times.Put(append(record[:timeSize:timeSize], key...), nil)
}

func (t *transaction) delete(key string) error {
	if err := t.forgetTime(key); err != nil {
		return err
	}
	return t.values.Delete([]byte(key))
}

// forgetTime removes the entry of a key's present time.
func (t *transaction) forgetTime(key string) error {
	record := t.values.Get([]byte(key))
	if len(record) < timeSize || binary.BigEndian.Uint64(record) == 0 {
		return nil
	}
	return t.times.Delete(append(bytes.Clone(record[:timeSize]), key...))
}

// expire deletes keys whose time is over.
func (t *transaction) expire() error {
	var over [][]byte
	cursor := t.times.Cursor()
	for entry, _ := cursor.First(); entry != nil && len(over) < maxExpired; entry, _ = cursor.Next() {
		if int64(binary.BigEndian.Uint64(entry)) > t.now {
			break
		}
		over = append(over, bytes.Clone(entry))
	}
	for _, entry := range over {
		if err := errors.Join(t.times.Delete(entry), t.values.Delete(entry[timeSize:])); err != nil {
			return err
		}
	}
	return nil
}

// until returns the time at which a key is deleted.
func (t *transaction) until(ttl time.Duration) int64 {
	if ttl == 0 {
		return 0
	}
	// Rounded up, so that a key is there for its whole time.
	return t.now + int64((ttl+time.Millisecond-1)/time.Millisecond) + 1
}

// Get implements kv.Store.
func (s *store) Get(ctx context.Context, key string) (value []byte, err error) {
	err = s.read(ctx, func(values *bolt.Bucket, now int64) error {
		found := live(values.Get([]byte(key)), now)
		if found == nil {
			return kv.ErrNotFound
		}
		value = append([]byte{}, found...)
		return nil
	})
	return value, err
}

// Set implements kv.Store.
func (s *store) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return s.write(ctx, func(t *transaction) error { return t.put(key, value, t.until(ttl)) })
}

// Delete implements kv.Store.
func (s *store) Delete(ctx context.Context, key string) error {
	return s.write(ctx, func(t *transaction) error { return t.delete(key) })
}

// Exists implements kv.Store.
func (s *store) Exists(ctx context.Context, key string) (there bool, err error) {
	err = s.read(ctx, func(values *bolt.Bucket, now int64) error {
		there = live(values.Get([]byte(key)), now) != nil
		return nil
	})
	return there, err
}

// List implements kv.Store.
func (s *store) List(ctx context.Context, prefix, cursor string, limit int) (keys []string, next string, err error) {
	err = s.read(ctx, func(values *bolt.Bucket, now int64) error {
		c := values.Cursor()
		key, record := c.Seek([]byte(max(prefix, cursor)))
		for ; key != nil && strings.HasPrefix(string(key), prefix); key, record = c.Next() {
			if string(key) <= cursor || live(record, now) == nil {
				continue
			}
			if len(keys) == limit {
				next = keys[limit-1]
				return nil
			}
			keys = append(keys, string(key))
		}
		return nil
	})
	return keys, next, err
}

// Increment implements kv.Store.
func (s *store) Increment(ctx context.Context, key string, delta int64, ttl time.Duration) (sum int64, err error) {
	err = s.write(ctx, func(t *transaction) error {
		at := t.until(ttl)
		value := t.get(key)
		if value != nil {
			at = int64(binary.BigEndian.Uint64(t.values.Get([]byte(key))))
		}
		text, n, err := kv.Add(value, delta)
		if err != nil {
			return err
		}
		sum = n
		return t.put(key, text, at)
	})
	if err != nil {
		return 0, err
	}
	return sum, nil
}

// CompareAndSwap implements kv.Store.
func (s *store) CompareAndSwap(ctx context.Context, key string, expected, value []byte, ttl time.Duration) (swapped bool, err error) {
	err = s.write(ctx, func(t *transaction) error {
		present := t.get(key)
		if (present == nil) != (expected == nil) || !bytes.Equal(present, expected) {
			return nil
		}
		swapped = true
		return t.put(key, value, t.until(ttl))
	})
	return swapped && err == nil, err
}

// Close implements kv.Store.
func (s *store) Close() error {
	close(s.closing)
	<-s.closed
	return s.db.Close()
}

// Interface guard
var _ kv.Store = (*store)(nil)
