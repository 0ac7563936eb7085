package hub

import (
	"io"
	"sync"
)

// A meter counts the bytes of all files together.
type meter struct {
	mu          sync.Mutex
	done, total int64
	report      func(done, total int64)
}

// expect adds to the bytes that are wanted.
func (m *meter) expect(n int64) { m.change(0, n) }

// add counts bytes that are here; a negative number those that were thrown away.
func (m *meter) add(n int64) { m.change(n, 0) }

func (m *meter) change(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += done
	m.total += total
	if m.report != nil && done != 0 {
		m.report(m.done, m.total)
	}
}

// A counting reader counts what it reads.
type counting struct {
	r     io.Reader
	meter *meter
}

// Read implements io.Reader.
func (c counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.meter.add(int64(n))
	return n, err
}
