package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"rmtrain/kernels"
)

// A doctorCheck is one line of the report.
type doctorCheck struct {
	section, name string
	proves        string // what a pass means
	run           func(ctx context.Context) finding
}

// A finding is how a check ended, and what is to be said of it.
type finding struct {
	verdict doctorVerdict
	detail  string
}

type doctorVerdict string

const (
	passed  doctorVerdict = "pass"
	failed  doctorVerdict = "fail"
	skipped doctorVerdict = "skipped"
)

func pass(format string, args ...any) finding {
	return finding{passed, fmt.Sprintf(format, args...)}
}

func skip(format string, args ...any) finding {
	return finding{skipped, fmt.Sprintf(format, args...)}
}

func fail(err error) finding { return finding{failed, err.Error()} }

// passOr fails if there is an error.
func passOr(err error, format string, args ...any) finding {
	if err != nil {
		return fail(err)
	}
	return pass(format, args...)
}

// take runs a check and records its line, unless it was stopped meanwhile.
func (d *doctor) take(ctx context.Context, c doctorCheck) {
	fmt.Fprintf(d.stderr, "%s: %s ...", c.section, c.name)
	start := time.Now()
	f := guarded(ctx, c.run)
	if ctx.Err() != nil {
		fmt.Fprintln(d.stderr, " stopped; there is no report")
		return
	}
	line := doctorLine{c.section, c.name, c.proves, string(f.verdict), f.detail, time.Since(start).Seconds()}
	d.report.Lines = append(d.report.Lines, line)
	fmt.Fprintf(d.stderr, " %s (%.1f s)\n", line.Verdict, line.Seconds)
	if f.verdict == failed {
		fmt.Fprintf(d.stderr, "    %s\n", strings.ReplaceAll(f.detail, "\n", "\n    "))
	}
}

// guarded turns a panic, by which backends refuse wrong shapes, into a failure: the other
// checks go on.
func guarded(ctx context.Context, run func(context.Context) finding) (f finding) {
	defer func() {
		if p := recover(); p != nil {
			f = fail(fmt.Errorf("panic: %v", p))
		}
	}()
	return run(ctx)
}

// perType makes a check for each compute type. It is skipped if the backend does not open,
// which is a line of its own.
func (d *doctor) perType(section, name, proves string, run func(ctx context.Context, b kernels.Backend, dt kernels.DType) finding) (cs []doctorCheck) {
	for _, dt := range doctorTypes {
		cs = append(cs, doctorCheck{section, fmt.Sprintf("%s, %s", name, dtypeName(dt)), proves, func(ctx context.Context) finding {
			b := d.backends[dt]
			if b == nil {
				return skip("the backend does not open; see above")
			}
			return run(ctx, b, dt)
		}})
	}
	return cs
}

// dtypeName is a compute type as users write it.
func dtypeName(dt kernels.DType) string {
	if dt == kernels.BF16 {
		return dtypeNames[1]
	}
	return dtypeNames[0]
}

// shortened joins errors, the first three of them.
func shortened(errs []error) error {
	const most = 3
	if len(errs) <= most {
		return errors.Join(errs...)
	}
	return errors.Join(append(errs[:most:most], fmt.Errorf("and %d more", len(errs)-most))...)
}
