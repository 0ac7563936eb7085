package serve

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"rmtrain/data/tokenizer"
)

// put queues units of the given rows, each with one conversation.
func put(t *testing.T, q *queue, client string, rows ...int) *job {
	t.Helper()
	j := &job{client: client, left: len(rows), done: make(chan struct{})}
	us := make([]*unit, len(rows))
	for i, n := range rows {
		us[i] = &unit{job: j, first: i, convs: make([]tokenizer.Encoded, 1), rows: n}
	}
	if err := q.push(j, us); err != nil {
		t.Fatal(err)
	}
	return j
}

// order takes n batches of at most budget rows and names the clients in them.
func order(q *queue, n, budget int) string {
	var out []string
	for range n {
		var names []string
		for _, u := range q.take(budget) {
			names = append(names, fmt.Sprint(u.job.client, u.rows))
		}
		out = append(out, strings.Join(names, " "))
	}
	return strings.Join(out, " | ")
}

func TestOneClientIsServedInOrder(t *testing.T) {
	q := newQueue(100)
	put(t, q, "a", 1, 2, 3)
	put(t, q, "a", 4, 5)
	if got, want := order(q, 3, 6), "a1 a2 a3 | a4 | a5"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
}

func TestAClientWithALotOfWorkDoesNotHoldUpOthers(t *testing.T) {
	q := newQueue(100)
	put(t, q, "a", 10, 10, 10, 10, 10, 10)
	put(t, q, "b", 10, 10)
	put(t, q, "c", 10)
	if got, want := order(q, 3, 30), "a10 b10 c10 | a10 b10 a10 | a10 a10 a10"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
}

func TestShortConversationsGetTheSameShareAsLongOnes(t *testing.T) {
	q := newQueue(100)
	put(t, q, "long", 20, 20)
	put(t, q, "short", 5, 5, 5, 5, 5)
	if got, want := order(q, 1, 1000), "long20 short5 short5 short5 short5 long20 short5"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
}

func TestIdleTimeIsNotSavedUp(t *testing.T) {
	q := newQueue(100)
	put(t, q, "a", 50, 1, 1, 1)
	order(q, 1, 50)
	put(t, q, "b", 1, 1)
	// b did nothing while a was given 50. It may catch up with where that began.
	if got, want := order(q, 1, 1000), "b1 b1 a1 a1 a1"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
	put(t, q, "a", 1, 1)
	put(t, q, "b", 1, 1)
	// The queue was empty in between: nobody owes anything.
	if got, want := order(q, 1, 1000), "a1 b1 a1 b1"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
}

func TestWhatIsLargerThanTheBudgetGoesAlone(t *testing.T) {
	q := newQueue(100)
	put(t, q, "a", 100)
	put(t, q, "b", 1)
	if got, want := order(q, 2, 10), "a100 | b1"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
}

func TestRemovedJobsLeaveNothingBehind(t *testing.T) {
	q := newQueue(10)
	gone := put(t, q, "a", 1, 2, 3)
	put(t, q, "a", 4)
	put(t, q, "b", 5)
	q.remove(gone)
	q.remove(gone)
	if n, rows := q.waiting(); n != 2 || rows != 9 {
		t.Errorf("%d conversations of %d rows wait, want 2 of 9", n, rows)
	}
	if got, want := order(q, 1, 100), "a4 b5"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
	if n, rows := q.waiting(); n != 0 || rows != 0 || len(q.order) != 0 {
		t.Errorf("%d conversations of %d rows wait, want none", n, rows)
	}
}

func TestAFullQueueTakesAllOrNothing(t *testing.T) {
	q := newQueue(3)
	put(t, q, "a", 1, 1)
	j := &job{client: "b", done: make(chan struct{})}
	us := []*unit{{job: j, convs: make([]tokenizer.Encoded, 2), rows: 2}}
	if err := q.push(j, us); err == nil || asFailure(err).kind != kindOverloaded {
		t.Fatalf("push over the limit: %v", err)
	}
	if n, _ := q.waiting(); n != 2 {
		t.Errorf("%d conversations wait, want 2", n)
	}
}

func TestAClosedQueueGivesWhatItHas(t *testing.T) {
	q := newQueue(3)
	put(t, q, "a", 1)
	q.close()
	if q.take(10) == nil {
		t.Error("the last unit is lost")
	}
	if q.take(10) != nil {
		t.Error("an empty closed queue gives something")
	}
	if err := q.push(&job{}, nil); err == nil {
		t.Error("a closed queue takes something")
	}
}

func TestClientsThatAreGoneAreForgotten(t *testing.T) {
	q := newQueue(10)
	for i := range 3 * idleLines {
		put(t, q, fmt.Sprint(i), 1)
		q.take(10)
	}
	if len(q.clients) > idleLines+1 {
		t.Errorf("%d clients are remembered", len(q.clients))
	}
}

// No order of pushes, takes and removals loses or doubles a unit.
func TestQueueKeepsItsBooks(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 50 {
		q := newQueue(1 << 20)
		left := map[*unit]bool{}
		var jobs []*job
		for range 400 {
			switch random.IntN(4) {
			case 0, 1:
				j := &job{client: fmt.Sprint(random.IntN(5)), done: make(chan struct{})}
				var us []*unit
				for range 1 + random.IntN(4) {
					u := &unit{job: j, convs: make([]tokenizer.Encoded, 1+random.IntN(3)), rows: 1 + random.IntN(50)}
					us = append(us, u)
					left[u] = true
				}
				if err := q.push(j, us); err != nil {
					t.Fatal(err)
				}
				jobs = append(jobs, j)
			case 2:
				if n, _ := q.waiting(); n == 0 {
					continue
				}
				rows := 0
				batch := q.take(64)
				for _, u := range batch {
					if !left[u] {
						t.Fatalf("round %d: a unit is taken that does not wait", round)
					}
					delete(left, u)
					rows += u.rows
				}
				if len(batch) == 0 || len(batch) > 1 && rows > 64 {
					t.Fatalf("round %d: a batch of %d units and %d rows", round, len(batch), rows)
				}
			default:
				if len(jobs) == 0 {
					continue
				}
				j := jobs[random.IntN(len(jobs))]
				q.remove(j)
				for u := range left {
					if u.job == j {
						delete(left, u)
					}
				}
			}
			convs, rows := 0, 0
			for u := range left {
				convs += len(u.convs)
				rows += u.rows
			}
			if n, r := q.waiting(); n != convs || r != rows {
				t.Fatalf("round %d: the queue counts %d and %d, there are %d and %d", round, n, r, convs, rows)
			}
		}
	}
}

// bruteRows is what a forward pass needs for a group, counted the long way.
func bruteRows(group []tokenizer.Encoded) int {
	shared := len(group[0].IDs) - 1
	total := 0
	for _, c := range group {
		n := 0
		for n < min(shared, len(c.IDs)-1) && c.IDs[n] == group[0].IDs[n] {
			n++
		}
		shared = n
		total += len(c.IDs)
	}
	return total - shared*(len(group)-1)
}

func TestSharingIsCountedRightAndNeverCostsRows(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	saved := 0
	for range 300 {
		prefixes := [][]int32{nil, {1, 2, 3, 4, 5, 6, 7, 8}, {1, 2, 3, 9, 9, 9}}
		var batch []*unit
		total := map[string]int{}
		for range 1 + random.IntN(5) {
			var convs []tokenizer.Encoded
			for range 1 + random.IntN(5) {
				ids := slices.Clone(prefixes[random.IntN(3)])
				for range 1 + random.IntN(4) {
					ids = append(ids, random.Int32N(4))
				}
				convs = append(convs, tokenizer.Encoded{IDs: ids})
				total[fmt.Sprint(ids)]++
			}
			us := units(&job{}, convs, 24)
			next := 0
			for _, u := range us {
				if u.first != next || u.rows != bruteRows(u.convs) || len(u.convs) > 1 && u.rows > 24 {
					t.Fatalf("unit at %d (want %d) with %d rows, there are %d", u.first, next, u.rows, bruteRows(u.convs))
				}
				next += len(u.convs)
			}
			if next != len(convs) {
				t.Fatalf("units hold %d of %d conversations", next, len(convs))
			}
			batch = append(batch, us...)
		}
		before, after := 0, 0
		for _, u := range batch {
			before += u.rows
		}
		groups, members := merge(batch)
		for i, g := range groups {
			after += bruteRows(g)
			var inside []tokenizer.Encoded
			for _, u := range members[i] {
				inside = append(inside, u.convs...)
			}
			if !slices.EqualFunc(g, inside, func(a, b tokenizer.Encoded) bool { return slices.Equal(a.IDs, b.IDs) }) {
				t.Fatal("a group is not its units in order")
			}
			for _, c := range g {
				total[fmt.Sprint(c.IDs)]--
			}
		}
		for ids, n := range total {
			if n != 0 {
				t.Fatalf("conversation %s is there %d times too seldom", ids, n)
			}
		}
		if after > before {
			t.Fatalf("merging makes %d rows of %d", after, before)
		}
		saved += before - after
	}
	if saved == 0 {
		t.Error("merging never saves a row")
	}
}
