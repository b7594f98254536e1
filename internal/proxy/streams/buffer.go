package streams

// A chunk is a piece of a body that has arrived and was not read yet.
type chunk struct {
	next     *chunk
	from, to int
	data     []byte
}

// The sizes of chunks. Most bodies are short, and so is what somebody sends who
// wants us to hold much for little.
const (
	shortChunk = 1 << 10
	longChunk  = 16 << 10
)

// A body is what has arrived of one. The zero body is empty.
type body struct {
	first, last *chunk
	n           int
	size        int // of its chunks
}

func (q *body) add(p []byte, m *Memory) {
	q.n += len(p)
	for len(p) > 0 {
		if q.last == nil || q.last.to == len(q.last.data) {
			k := m.chunk(q.n <= shortChunk)
			k.next, k.from, k.to = nil, 0, 0
			q.size += len(k.data)
			if q.last == nil {
				q.first = k
			} else {
				q.last.next = k
			}
			q.last = k
		}
		k := copy(q.last.data[q.last.to:], p)
		q.last.to += k
		p = p[k:]
	}
}

func (q *body) read(p []byte, m *Memory) (n int) {
	for n < len(p) && q.n > 0 {
		k := q.first
		part := copy(p[n:], k.data[k.from:k.to])
		n += part
		q.n -= part
		if k.from += part; k.from == k.to {
			q.drop(m)
		}
	}
	return n
}

// drop gives the first chunk back.
func (q *body) drop(m *Memory) {
	k := q.first
	if q.first = k.next; q.first == nil {
		q.last = nil
	}
	k.next = nil
	q.size -= len(k.data)
	m.putChunk(k)
}

// clear empties q and returns how much was in it.
func (q *body) clear(m *Memory) (n int) {
	n = q.n
	for q.first != nil {
		q.drop(m)
	}
	q.n = 0
	return n
}
