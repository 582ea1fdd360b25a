package caps

import "container/list"

// lru is a map that forgets what wasn't used for longest. It isn't safe for
// concurrent use.
type lru[K comparable, V any] struct {
	max   int
	order *list.List // of *entry, newest first
	index map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](size int) *lru[K, V] {
	return &lru[K, V]{max: size, order: list.New(), index: map[K]*list.Element{}}
}

func (l *lru[K, V]) get(k K) (v V, ok bool) {
	el, ok := l.index[k]
	if !ok {
		return v, false
	}
	l.order.MoveToFront(el)
	return el.Value.(*entry[K, V]).value, true
}

func (l *lru[K, V]) put(k K, v V) {
	if el, ok := l.index[k]; ok {
		el.Value.(*entry[K, V]).value = v
		l.order.MoveToFront(el)
		return
	}
	l.index[k] = l.order.PushFront(&entry[K, V]{k, v})
	if l.order.Len() > l.max {
		last := l.order.Back()
		l.order.Remove(last)
		delete(l.index, last.Value.(*entry[K, V]).key)
	}
}
