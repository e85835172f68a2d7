// This file sorts keys that come in any order into a page, for stores that have no order of their keys.

package kv

import "slices"

// Page collects the first keys behind a cursor.
type Page struct {
	cursor string
	limit  int
	keys   []string
}

// NewPage returns a page of at most limit keys, all greater than cursor.
func NewPage(cursor string, limit int) *Page { return &Page{cursor: cursor, limit: limit} }

// Add adds a key, unless an earlier page had it.
func (p *Page) Add(key string) {
	if key <= p.cursor {
		return
	}
	p.keys = append(p.keys, key)
	if len(p.keys) >= 4*(p.limit+1) {
		p.cut()
	}
}

// cut drops what is behind the page, but for one key that says that there is more.
func (p *Page) cut() {
	slices.Sort(p.keys)
	p.keys = slices.Compact(p.keys)
	p.keys = p.keys[:min(len(p.keys), p.limit+1)]
}

// Result returns the keys in their order, and the cursor of the next page, or "".
func (p *Page) Result() (keys []string, next string) {
	p.cut()
	if len(p.keys) <= p.limit {
		return p.keys, ""
	}
	keys = p.keys[:p.limit]
	return keys, keys[p.limit-1]
}
