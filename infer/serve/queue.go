package serve

import (
	"container/heap"
	"slices"
	"sync"

	"rmtrain/data/tokenizer"
)

// A job is a request on its way to scores.
type job struct {
	client string
	scores []float64
	err    error
	left   int           // units without scores
	done   chan struct{} // closed when left is 0
}

// A unit is what goes into one forward pass: conversations of one job that follow
// each other and share a beginning.
type unit struct {
	job   *job
	first int // index of the first conversation's score
	convs []tokenizer.Encoded
	rows  int // of the forward pass that it needs
	age   uint64
}

// A queue hands out units, fairly among clients: the next one is always of the client
// that has been given the least computing since it last had nothing to do; among
// equals, the oldest. A client's own units stay in order.
type queue struct {
	most int // conversations

	mu      sync.Mutex
	wake    *sync.Cond
	clients map[string]*line
	order   lines // those that have units
	age     uint64
	clock   int64 // what the last client that was served had been given before
	largest int64 // what the best served client has been given
	convs   int
	rows    int
	closed  bool
}

// A line is the units of one client.
type line struct {
	client string
	units  []*unit
	given  int64 // rows
	at     int   // in the heap; -1 if not there
}

// idleLines is how many clients without work are remembered.
const idleLines = 4096

func newQueue(most int) *queue {
	q := &queue{most: most, clients: map[string]*line{}}
	q.wake = sync.NewCond(&q.mu)
	return q
}

// push takes all units of a job or, if there is no room for them, none.
func (q *queue) push(j *job, units []*unit) error {
	convs, rows := 0, 0
	for _, u := range units {
		convs += len(u.convs)
		rows += u.rows
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return failf(kindUnavailable, "the server is shutting down")
	}
	if q.convs+convs > q.most {
		return failf(kindOverloaded, "%d conversations wait already; %d more are over the limit of %d", q.convs, convs, q.most)
	}
	l := q.clients[j.client]
	if l == nil {
		q.forget()
		l = &line{client: j.client, at: -1}
		q.clients[j.client] = l
	}
	for _, u := range units {
		q.age++
		u.age = q.age
	}
	l.units = append(l.units, units...)
	if l.at < 0 {
		l.given = max(l.given, q.clock) // what was not used is not saved up
		heap.Push(&q.order, l)
	}
	q.convs += convs
	q.rows += rows
	q.wake.Signal()
	return nil
}

// forget drops clients that have nothing to do, when there are many. What they owe is
// no more than their last unit.
func (q *queue) forget() {
	if len(q.clients) < idleLines {
		return
	}
	for name, l := range q.clients {
		if l.at < 0 {
			delete(q.clients, name)
		}
	}
}

// take waits for work and returns units of at most budget rows, or one that is larger;
// nil when the queue is closed and empty.
func (q *queue) take(budget int) []*unit {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.order) == 0 {
		if q.closed {
			return nil
		}
		q.wake.Wait()
	}
	var batch []*unit
	for rows := 0; len(q.order) > 0; {
		l := q.order[0]
		u := l.units[0]
		if len(batch) > 0 && rows+u.rows > budget {
			break
		}
		rows += u.rows
		batch = append(batch, u)
		q.clock = l.given
		l.given += int64(u.rows)
		q.largest = max(q.largest, l.given)
		l.units = slices.Delete(l.units, 0, 1)
		q.convs -= len(u.convs)
		q.rows -= u.rows
		q.settle(l)
	}
	if len(q.order) == 0 {
		q.clock = q.largest // all have what they asked for; nobody owes anything
	}
	return batch
}

// settle puts l, whose first unit or account has changed, where it belongs.
func (q *queue) settle(l *line) {
	if len(l.units) == 0 {
		l.units = nil
		heap.Remove(&q.order, l.at)
		return
	}
	heap.Fix(&q.order, l.at)
}

// remove takes out what waits of a job that nobody wants any more.
func (q *queue) remove(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.clients[j.client]
	if l == nil || l.at < 0 {
		return
	}
	l.units = slices.DeleteFunc(l.units, func(u *unit) bool {
		if u.job != j {
			return false
		}
		q.convs -= len(u.convs)
		q.rows -= u.rows
		return true
	})
	q.settle(l)
}

// close lets take return nil once the queue is empty.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake.Broadcast()
}

// waiting returns the conversations and rows in the queue.
func (q *queue) waiting() (convs, rows int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.convs, q.rows
}

// lines is a heap: the line to serve next is first.
type lines []*line

func (l lines) Len() int { return len(l) }

func (l lines) Less(i, j int) bool {
	if l[i].given != l[j].given {
		return l[i].given < l[j].given
	}
	return l[i].units[0].age < l[j].units[0].age
}

func (l lines) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].at, l[j].at = i, j
}

// Push and Pop are for container/heap.
func (l *lines) Push(x any) {
	x.(*line).at = len(*l)
	*l = append(*l, x.(*line))
}

func (l *lines) Pop() any {
	last := (*l)[len(*l)-1]
	(*l)[len(*l)-1] = nil
	*l = (*l)[:len(*l)-1]
	last.at = -1
	return last
}
