package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"rmtrain/data/tokenizer"
)

// An engine is a model with its queue, its scheduler and the ids of recent texts.
// A reload makes a new engine; the old one answers what it has begun.
type engine struct {
	model   *Model
	limits  Limits
	metrics *metrics
	log     *slog.Logger
	cache   *cache
	queue   *queue
	stopped chan struct{} // closed when the scheduler has returned
	speed   atomic.Uint64 // rows per second of late, as float64 bits

	encoderMu sync.Mutex
	encoders  map[cut]*tokenizer.Encoder
	special   func() map[int32]bool

	users   int // requests; guarded by Server.mu
	retired bool
}

func newEngine(m *Model, l Limits, mt *metrics, log *slog.Logger) *engine {
	e := &engine{
		model: m, limits: l, metrics: mt, log: log, cache: newCache(l.CachedTokens), queue: newQueue(l.Queue),
		stopped: make(chan struct{}), encoders: map[cut]*tokenizer.Encoder{},
	}
	e.special = sync.OnceValue(e.specialIDs)
	go e.schedule()
	return e
}

// close waits for the scheduler, which first scores what still waits.
func (e *engine) close() error {
	e.queue.close()
	<-e.stopped
	if e.model.Close == nil {
		return nil
	}
	return e.model.Close()
}

// score returns the rewards of convs, in order, or ctx's error.
func (e *engine) score(ctx context.Context, client string, convs []tokenizer.Encoded) ([]float64, error) {
	j := &job{client: client, scores: make([]float64, len(convs)), done: make(chan struct{})}
	us := units(j, convs, e.limits.BatchTokens)
	if j.left = len(us); j.left == 0 {
		return nil, nil
	}
	if err := e.queue.push(j, us); err != nil {
		asFailure(err).retry = e.delay()
		return nil, err
	}
	select {
	case <-j.done:
		return j.scores, j.err
	case <-ctx.Done():
		e.queue.remove(j)
		return nil, ctx.Err()
	}
}

// delay estimates when the queue will have room.
func (e *engine) delay() time.Duration {
	_, rows := e.queue.waiting()
	seconds := 1.0
	if speed := math.Float64frombits(e.speed.Load()); speed > 0 {
		seconds = float64(rows) / speed / 2 // half of it empty is room enough
	}
	return time.Duration(min(max(seconds, 1), 60) * float64(time.Second))
}

// schedule scores batch after batch, until the queue is closed. While one is computed,
// the next one gathers in the queue.
func (e *engine) schedule() {
	defer close(e.stopped)
	for {
		batch := e.queue.take(e.limits.BatchTokens)
		if batch == nil {
			return
		}
		e.run(batch)
	}
}

// run scores a batch. If that fails, each unit is tried alone, so that no request
// fails for the company it kept.
func (e *engine) run(batch []*unit) {
	err := e.forward(batch)
	if err == nil {
		return
	}
	e.log.Error("forward pass failed", "units", len(batch), "error", err)
	for _, u := range batch {
		if len(batch) > 1 {
			err = e.forward([]*unit{u})
		}
		if err != nil {
			u.finish(nil, err)
		}
	}
}

// forward scores a batch and hands out the scores, or nothing if it fails.
func (e *engine) forward(batch []*unit) (err error) {
	defer func() {
		if r := recover(); r != nil { // a shape that the network does not expect
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	groups, members := merge(batch)
	start := time.Now()
	// Not the context of any request: a batch is of many.
	scores, err := e.model.Scorer.Score(context.Background(), groups)
	if err != nil {
		return err
	}
	e.account(batch, time.Since(start))
	for i, us := range members {
		rest := scores[i]
		for _, u := range us {
			u.finish(rest[:len(u.convs)], nil)
			rest = rest[len(u.convs):]
		}
	}
	return nil
}

// account remembers how much was computed how fast.
func (e *engine) account(batch []*unit, took time.Duration) {
	convs, tokens, rows := 0, 0, 0
	for _, u := range batch {
		convs += len(u.convs)
		rows += u.rows
		for _, c := range u.convs {
			tokens += len(c.IDs)
		}
	}
	e.metrics.batch(convs, tokens, rows, took)
	now := float64(rows) / max(took.Seconds(), 1e-6)
	if was := math.Float64frombits(e.speed.Load()); was > 0 {
		now = 0.9*was + 0.1*now
	}
	e.speed.Store(math.Float64bits(now))
}

// finish is called by the scheduler only.
func (u *unit) finish(scores []float64, err error) {
	j := u.job
	copy(j.scores[u.first:], scores)
	for _, x := range scores {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			err = failf(kindBackend, "a score is not a finite number (the model's weights or the bfloat16 range may be at fault)")
		}
	}
	j.err = errors.Join(j.err, err)
	if j.left--; j.left == 0 {
		close(j.done)
	}
}
