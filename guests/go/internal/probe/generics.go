package probe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// generics runs text through containers and functions over many types, and is the same for the same text.
func generics(text string) string {
	letters := collect(text, func(r rune) rune { return r })
	lengths := collect(text, func(r rune) int8 { return int8(r % 7) })
	halves := collect(text, func(r rune) float32 { return float32(r) / 2 })
	words := collect(text, func(r rune) string { return strings.Repeat(string(r), int(r%3)) })
	points := collect(text, func(r rune) pair[rune, string] { return pair[rune, string]{r, string(r)} })

	var tree tree[string, int]
	for i, word := range words {
		tree.put(word, i)
	}
	slices.SortFunc(points, func(a, b pair[rune, string]) int { return cmp.Compare(b.first, a.first) })
	return fmt.Sprint(len(set(letters)), reduce(lengths, 0, add[int8]), reduce(halves, 0, add[float32]), tree.keys(), largest(points))
}

type pair[A any, B comparable] struct {
	first  A
	second B
}

type summable interface {
	~int8 | ~int | ~float32 | ~float64
}

type tree[K cmp.Ordered, V any] struct {
	root *branch[K, V]
}

type branch[K cmp.Ordered, V any] struct {
	key         K
	value       V
	left, right *branch[K, V]
}

func (t *tree[K, V]) put(key K, value V) {
	at := &t.root
	for *at != nil {
		switch cmp.Compare(key, (*at).key) {
		case 0:
			(*at).value = value
			return
		case -1:
			at = &(*at).left
		default:
			at = &(*at).right
		}
	}
	*at = &branch[K, V]{key: key, value: value}
}

func (t *tree[K, V]) keys() []K { return t.root.keys(nil) }

func (b *branch[K, V]) keys(into []K) []K {
	if b == nil {
		return into
	}
	return b.right.keys(append(b.left.keys(into), b.key))
}

func collect[T any](text string, of func(rune) T) []T {
	var all []T
	for _, r := range text {
		all = append(all, of(r))
	}
	return all
}

func reduce[T, R any](all []T, result R, step func(R, T) R) R {
	for _, value := range all {
		result = step(result, value)
	}
	return result
}

func add[T summable](a, b T) T { return a + b }

func set[T comparable](all []T) map[T]struct{} {
	members := map[T]struct{}{}
	for _, value := range all {
		members[value] = struct{}{}
	}
	return members
}

func largest[A any, B comparable](all []pair[A, B]) B {
	var none B
	if len(all) == 0 {
		return none
	}
	return all[0].second
}
