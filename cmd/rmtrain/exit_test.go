package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
)

func TestExitStatus(t *testing.T) {
	t.Parallel()
	stopped := func(s syscall.Signal) context.Context {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(signalError{s})
		return ctx
	}
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
	}{
		{"success", context.Background(), nil, 0},
		{"failure", context.Background(), errors.New("expected by the test"), 1},
		{"bad lines", context.Background(), errSomeBad, 1},
		{"interrupted", stopped(syscall.SIGINT), fmt.Errorf("read: %w", context.Canceled), 130},
		{"interrupted, with its cause", stopped(syscall.SIGINT), signalError{syscall.SIGINT}, 130},
		{"terminated", stopped(syscall.SIGTERM), context.Canceled, 143},
		{"hung up", stopped(syscall.SIGHUP), context.Canceled, 129},
		{"a signal after the last step", stopped(syscall.SIGTERM), nil, 0},
	} {
		if got := exitStatus(c.ctx, c.err); got != c.want {
			t.Errorf("%s: status %d, want %d", c.name, got, c.want)
		}
	}
}
