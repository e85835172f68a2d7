// This file has the store itself: its operations on the stream of a bucket.

package nats

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pauloappbr/gojinn/caddy/kv"
)

// store writes the messages that the client's KeyValue writes, so that other programs can read the bucket. It does not use
// KeyValue itself, which can give a time to new keys only.
//
// The server deletes a message when its time in whole seconds is over. expiresHeader has the exact time, by the clock of the
// Caddy that wrote it.
type store struct {
	conn     *nats.Conn
	js       jetstream.JetStream
	name     string
	replicas int

	mu sync.Mutex
	// stream is nil until the server was reached for the first time.
	stream jetstream.Stream
}

const (
	// expiresHeader is when a key is deleted, in milliseconds since 1970.
	expiresHeader = "Gojinn-Expires"
	// operationHeader marks messages that delete a key, as the client's KeyValue does.
	operationHeader = "KV-Operation"

	reconnectWait = 500 * time.Millisecond
	// operationTimeout is how long an operation waits for the server, if its context leaves more time.
	operationTimeout = 5 * time.Second
	// markerTime is how long the server remembers that a key was deleted.
	markerTime = time.Minute
)

func newStore(conn *nats.Conn, name string, replicas int) (kv.Store, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &store{conn: conn, js: js, name: name, replicas: replicas}, nil
}

// bucket returns the stream of the bucket, which it makes if there is none.
func (s *store) bucket(ctx context.Context) (jetstream.Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream != nil {
		return s.stream, nil
	}
	if !s.conn.IsConnected() {
		return nil, nats.ErrDisconnected
	}
	name := "KV_" + s.name
	stream, err := s.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: s.name, Description: "a key-value store of Gojinn", History: 1, Replicas: s.replicas, LimitMarkerTTL: markerTime,
		})
		// Another Caddy may have made it in the meantime.
		if err == nil || errors.Is(err, jetstream.ErrBucketExists) {
			stream, err = s.js.Stream(ctx, name)
		}
	}
	if err != nil {
		return nil, err
	}
	if !stream.CachedInfo().Config.AllowMsgTTL {
		return nil, fmt.Errorf("the bucket %s was made without times for messages; make it with a limit marker TTL, or name another", s.name)
	}
	s.stream = stream
	return stream, nil
}

// failure returns the error for a function.
func failure(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := "NATS did not answer"
	if api := (*jetstream.APIError)(nil); errors.As(err, &api) {
		text = "NATS refused the operation"
	}
	return &kv.Failure{Text: text, Cause: err}
}

// message is the last message of a key.
type message struct {
	// sequence is 0 if there is none. A deleted key may have one.
	sequence uint64
	// value is nil if the key does not exist.
	value []byte
	// expires is when the key is deleted, in milliseconds since 1970, or 0.
	expires int64
}

// last returns the last message of a key.
func (s *store) last(ctx context.Context, key string) (m message, err error) {
	stream, err := s.bucket(ctx)
	if err != nil {
		return m, err
	}
	raw, err := stream.GetLastMsgForSubject(ctx, s.subject(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	m.sequence = raw.Sequence
	if isLive(raw.Header, &m.expires) {
		m.value = append([]byte{}, raw.Data...)
	}
	return m, nil
}

// isLive reports whether a message with these headers is a value whose time is not over.
func isLive(header nats.Header, expires *int64) bool {
	if header.Get(operationHeader) != "" || header.Get(jetstream.MarkerReasonHeader) != "" {
		return false
	}
	text := header.Get(expiresHeader)
	if text == "" {
		return true
	}
	at, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return true
	}
	*expires = at
	return time.Now().UnixMilli() < at
}

// publish writes the value of a key. after is the sequence that the key's last message must have, or nil; errChanged says that it
// has another one.
func (s *store) publish(ctx context.Context, key string, value []byte, expires int64, after *uint64) error {
	if _, err := s.bucket(ctx); err != nil {
		return err
	}
	m := nats.NewMsg(s.subject(key))
	m.Data = value
	var options []jetstream.PublishOpt
	if expires != 0 {
		m.Header.Set(expiresHeader, strconv.FormatInt(expires, 10))
		// In whole seconds, of which there is one at least.
		left := max(time.Until(time.UnixMilli(expires)), 1)
		options = append(options, jetstream.WithMsgTTL((left + time.Second - 1).Truncate(time.Second)))
	}
	if after != nil {
		options = append(options, jetstream.WithExpectLastSequencePerSubject(*after))
	}
	_, err := s.js.PublishMsg(ctx, m, options...)
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return errChanged
	}
	return err
}

var errChanged = errors.New("the key has changed in the meantime")

func expiry(ttl time.Duration) int64 {
	if ttl == 0 {
		return 0
	}
	return time.Now().Add(ttl+time.Millisecond-1).UnixMilli() + 1
}

// Get implements kv.Store.
func (s *store) Get(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	m, err := s.last(ctx, key)
	if err != nil {
		return nil, failure(ctx, err)
	}
	if m.value == nil {
		return nil, kv.ErrNotFound
	}
	return m.value, nil
}

// Set implements kv.Store.
func (s *store) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	return failure(ctx, s.publish(ctx, key, value, expiry(ttl), nil))
}

// Delete implements kv.Store.
func (s *store) Delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	m, err := s.last(ctx, key)
	if err != nil || m.value == nil {
		return failure(ctx, err)
	}
	marker := nats.NewMsg(s.subject(key))
	marker.Header.Set(operationHeader, "PURGE")
	marker.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	_, err = s.js.PublishMsg(ctx, marker, jetstream.WithMsgTTL(markerTime))
	return failure(ctx, err)
}

// Exists implements kv.Store.
func (s *store) Exists(ctx context.Context, key string) (bool, error) {
	_, err := s.Get(ctx, key)
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// List implements kv.Store. JetStream has no pages of keys, so each page reads the headers of all of them.
func (s *store) List(ctx context.Context, prefix, cursor string, limit int) (keys []string, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	stream, err := s.bucket(ctx)
	if err != nil {
		return nil, "", failure(ctx, err)
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{s.subjects() + ">"},
		DeliverPolicy:  jetstream.DeliverLastPerSubjectPolicy,
		HeadersOnly:    true,
	})
	if err != nil {
		return nil, "", failure(ctx, err)
	}
	page := kv.NewPage(cursor, limit)
	pending := consumer.CachedInfo().NumPending
	if pending == 0 {
		return nil, "", nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, "", failure(ctx, err)
	}
	defer messages.Stop()
	for pending > 0 {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, "", failure(ctx, err)
		}
		about, err := m.Metadata()
		if err != nil {
			return nil, "", failure(ctx, err)
		}
		pending = about.NumPending
		key, ok := decodeKey(strings.TrimPrefix(m.Subject(), s.subjects()))
		var expires int64
		if ok && strings.HasPrefix(key, prefix) && isLive(m.Headers(), &expires) {
			page.Add(key)
		}
	}
	keys, next = page.Result()
	return keys, next, nil
}

// Increment implements kv.Store.
func (s *store) Increment(ctx context.Context, key string, delta int64, ttl time.Duration) (sum int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	for {
		m, err := s.last(ctx, key)
		if err != nil {
			return 0, failure(ctx, err)
		}
		expires := m.expires
		if m.value == nil {
			expires = expiry(ttl)
		}
		text, sum, err := kv.Add(m.value, delta)
		if err != nil {
			return 0, err
		}
		err = s.publish(ctx, key, text, expires, &m.sequence)
		if !errors.Is(err, errChanged) {
			return sum, failure(ctx, err)
		}
		// Others add to the same number. Waiting a random moment lets one of them through.
		select {
		case <-time.After(rand.N(5 * time.Millisecond)):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// CompareAndSwap implements kv.Store.
func (s *store) CompareAndSwap(ctx context.Context, key string, expected, value []byte, ttl time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	m, err := s.last(ctx, key)
	if err != nil {
		return false, failure(ctx, err)
	}
	if (m.value == nil) != (expected == nil) || !bytes.Equal(m.value, expected) {
		return false, nil
	}
	err = s.publish(ctx, key, value, expiry(ttl), &m.sequence)
	if errors.Is(err, errChanged) {
		return false, nil
	}
	return err == nil, failure(ctx, err)
}

// Close implements kv.Store.
func (s *store) Close() error {
	s.conn.Close()
	return nil
}

// subjects returns what the subjects of all keys begin with.
func (s *store) subjects() string { return "$KV." + s.name + "." }

func (s *store) subject(key string) string { return s.subjects() + encodeKey(key) }

// encodeKey returns a key in the characters that keys of NATS may have: other bytes are written as = and two hexadecimal digits. The
// dot is one of them, because it divides a subject.
func encodeKey(key string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(key) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '/' {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'=', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

// decodeKey returns the key of an encoded one. Another program may have written keys that are none of ours.
func decodeKey(encoded string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(encoded); i++ {
		c := encoded[i]
		if c == '=' {
			if i+2 >= len(encoded) {
				return "", false
			}
			n, err := strconv.ParseUint(encoded[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			c, i = byte(n), i+2
		}
		b.WriteByte(c)
	}
	key := b.String()
	return key, encodeKey(key) == encoded
}

// Interface guard
var _ kv.Store = (*store)(nil)
