// Command rmtrain turns a Llama-architecture chat model into a reward model, by
// the K-wise Plackett-Luce likelihood of ranked answers, and scores with it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"rmtrain/data/rows"
)

// version is set by the linker.
var version = "devel"

func main() {
	if rows.ChildMain() { // this process only decodes Parquet for its parent
		return
	}
	signal.Ignore(syscall.SIGXFSZ) // a limit on the size of files is an error of a write, like a full disk
	ctx, stop := untilSignal()
	err := command().ExecuteContext(ctx)
	stop()
	os.Exit(exitStatus(ctx, err))
}

// errSomeBad ends a command whose output already says what was wrong.
var errSomeBad = errors.New("some input could not be used")

// A signalError is why a context ended.
type signalError struct{ syscall.Signal }

func (s signalError) Error() string { return s.String() }

// Is makes a signal one way for a context to be canceled.
func (s signalError) Is(target error) bool { return target == context.Canceled }

// status is that of a process which the signal ended, as shells report it.
func (s signalError) status() int { return 128 + int(s.Signal) }

// untilSignal returns a context that the first SIGINT, SIGTERM or SIGHUP cancels; the
// command then finishes what it must not leave half done. Another SIGINT or SIGTERM ends
// the process at once; another SIGHUP does not, since a terminal that closes may send it
// twice. Under nohup SIGHUP stays ignored.
func untilSignal() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := make(chan os.Signal, 2)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(c, syscall.SIGHUP)
	}
	go func() {
		for {
			s, ok := (<-c).(syscall.Signal)
			switch {
			case !ok:
				return
			case s == syscall.SIGHUP:
				signal.Ignore(syscall.SIGPIPE) // who read the output may be gone too
			case ctx.Err() != nil:
				os.Exit(signalError{s}.status())
			}
			cancel(signalError{s})
		}
	}()
	return ctx, func() { signal.Stop(c) }
}

// exitWhenStopped ends the process as soon as ctx ends, until the returned function
// is called. It is for work that does not look at ctx and leaves nothing behind.
func exitWhenStopped(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() { os.Exit(exitStatus(ctx, context.Cause(ctx))) })
}

// exitStatus prints err, unless it was said already, and returns the status of the
// process: 0, 1, or 128 plus the signal that ended it.
func exitStatus(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	var s signalError
	stopped := errors.As(context.Cause(ctx), &s)
	switch {
	case stopped && errors.Is(err, context.Canceled):
		fmt.Fprintf(os.Stderr, "rmtrain: stopped (%v)\n", s)
	case !errors.Is(err, errSomeBad):
		fmt.Fprintln(os.Stderr, "rmtrain:", err)
	}
	if stopped {
		return s.status()
	}
	return 1
}
