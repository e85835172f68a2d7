// This file has the numbers that Increment adds to, for stores that have no such operation.

package kv

import (
	"math"
	"strconv"
)

// Add returns the sum of the number in value and delta, as text and as a number. A nil value is 0.
func Add(value []byte, delta int64) (text []byte, sum int64, err error) {
	var n int64
	if value != nil {
		n, err = strconv.ParseInt(string(value), 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != string(value) {
			return nil, 0, ErrNotNumber
		}
	}
	if delta > 0 && n > math.MaxInt64-delta || delta < 0 && n < math.MinInt64-delta {
		return nil, 0, ErrOverflow
	}
	return strconv.AppendInt(nil, n+delta, 10), n + delta, nil
}
