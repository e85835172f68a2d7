// This file has the store itself: its operations as commands and scripts of Redis.

package redis

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/pauloappbr/gojinn/caddy/kv"
)

type store struct {
	client *redis.Client
	prefix string
}

// incrementScript adds ARGV[1] to KEYS[1], which it makes with a time of ARGV[2] milliseconds if it is missing. The sum is returned
// as text, because numbers of Lua have 53 bits.
var incrementScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then
	redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
else
	redis.call('INCRBY', KEYS[1], ARGV[1])
end
return redis.call('GET', KEYS[1])`)

// swapScript sets KEYS[1] to ARGV[3] if it is ARGV[2], or if it is missing and ARGV[1] is 0. ARGV[4] is its time in milliseconds,
// or 0.
var swapScript = redis.NewScript(`
local present = redis.call('GET', KEYS[1])
if ARGV[1] == '0' then
	if present then return 0 end
elseif present ~= ARGV[2] then
	return 0
end
if ARGV[4] == '0' then
	redis.call('SET', KEYS[1], ARGV[3])
else
	redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
return 1`)

// failure returns the error for a function.
func failure(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return &kv.Failure{Text: "the key is not a plain value in Redis", Cause: err}
	case isReply(err):
		return &kv.Failure{Text: "Redis refused the operation", Cause: err}
	default:
		return &kv.Failure{Text: "Redis did not answer", Cause: err}
	}
}

// isReply reports whether an error is one that the server replied with.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// Get implements kv.Store.
func (s *store) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := s.client.Get(ctx, s.prefix+key).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, kv.ErrNotFound
	}
	if err != nil {
		return nil, failure(ctx, err)
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}

// Set implements kv.Store.
func (s *store) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return failure(ctx, s.client.Set(ctx, s.prefix+key, value, ttl).Err())
}

// Delete implements kv.Store.
func (s *store) Delete(ctx context.Context, key string) error {
	return failure(ctx, s.client.Del(ctx, s.prefix+key).Err())
}

// Exists implements kv.Store.
func (s *store) Exists(ctx context.Context, key string) (bool, error) {
	n, err := s.client.Exists(ctx, s.prefix+key).Result()
	return n > 0, failure(ctx, err)
}

// maxScans is how many times List asks for one page. Where few keys have the prefix, most answers are empty.
const maxScans = 64

// List implements kv.Store. A cursor is Redis's cursor, and after a space the keys, as a JSON array, that were left over: Redis
// may answer with more keys than were asked for.
func (s *store) List(ctx context.Context, prefix, cursor string, limit int) (keys []string, next string, err error) {
	at, left, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	seen := map[string]bool{}
	add := func(key string) {
		if strings.HasPrefix(key, prefix) && !seen[key] && valid(key) {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	for _, key := range left {
		add(key)
	}
	more := cursor == "" || at != 0
	for scans := 0; more && len(keys) < limit && scans < maxScans; scans++ {
		var found []string
		found, at, err = s.client.Scan(ctx, at, escapePattern(s.prefix+prefix)+"*", int64(limit)).Result()
		if err != nil {
			return nil, "", failure(ctx, err)
		}
		for _, key := range found {
			add(strings.TrimPrefix(key, s.prefix))
		}
		more = at != 0
	}
	left = keys[min(limit, len(keys)):]
	keys = keys[:len(keys)-len(left)]
	if !more && len(left) == 0 {
		return keys, "", nil
	}
	next = strconv.FormatUint(at, 10)
	if len(left) > 0 {
		text, err := json.Marshal(left)
		if err != nil {
			return nil, "", err
		}
		next += " " + string(text)
	}
	return keys, next, nil
}

func parseCursor(cursor string) (at uint64, left []string, err error) {
	if cursor == "" {
		return 0, nil, nil
	}
	number, list, has := strings.Cut(cursor, " ")
	if at, err = strconv.ParseUint(number, 10, 64); err != nil {
		return 0, nil, kv.ErrBadCursor
	}
	if has && json.Unmarshal([]byte(list), &left) != nil {
		return 0, nil, kv.ErrBadCursor
	}
	return at, left, nil
}

// valid reports whether a function may use a key. Another program may have made others.
func valid(key string) bool { return key != "" && len(key) <= kv.MaxKey && utf8.ValidString(key) }

// escapePattern returns a pattern of Redis that matches text only.
func escapePattern(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}

// Increment implements kv.Store.
func (s *store) Increment(ctx context.Context, key string, delta int64, ttl time.Duration) (sum int64, err error) {
	if ttl == 0 {
		sum, err = s.client.IncrBy(ctx, s.prefix+key, delta).Result()
	} else {
		var text string
		text, err = incrementScript.Run(ctx, s.client, []string{s.prefix + key}, delta, milliseconds(ttl)).Text()
		if err == nil {
			sum, err = strconv.ParseInt(text, 10, 64)
		}
	}
	switch {
	case err == nil:
		return sum, nil
	case isReply(err) && strings.Contains(err.Error(), "value is not an integer"):
		return 0, kv.ErrNotNumber
	case isReply(err) && strings.Contains(err.Error(), "would overflow"):
		return 0, kv.ErrOverflow
	default:
		return 0, failure(ctx, err)
	}
}

// CompareAndSwap implements kv.Store.
func (s *store) CompareAndSwap(ctx context.Context, key string, expected, value []byte, ttl time.Duration) (bool, error) {
	there := 0
	if expected != nil {
		there = 1
	}
	swapped, err := swapScript.Run(ctx, s.client, []string{s.prefix + key}, there, expected, value, milliseconds(ttl)).Int()
	return swapped == 1, failure(ctx, err)
}

// milliseconds returns a time, rounded up.
func milliseconds(ttl time.Duration) int64 {
	return int64((ttl + time.Millisecond - 1) / time.Millisecond)
}

// Close implements kv.Store.
func (s *store) Close() error { return s.client.Close() }

// Interface guard
var _ kv.Store = (*store)(nil)
