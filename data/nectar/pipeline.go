package nectar

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"rmtrain/data"
	"rmtrain/data/rows"
)

// A row is a row of one of several files.
type row struct {
	rows.Row
	file string
	read int64 // bytes of input up to here, all files together
}

// readAll hands the rows of all files to emit, in order.
func readAll(ctx context.Context, files []rows.File, emit func(row) error) error {
	base := int64(0)
	for _, f := range files {
		err := rows.Read(ctx, f.Path, columns, func(r rows.Row) error {
			return emit(row{r, f.Path, base + int64(r.Done*float64(f.Bytes))})
		})
		if err != nil {
			return err
		}
		base += f.Bytes
	}
	return nil
}

// A job is one row on its way from the reader, through a worker, to the writer.
type job struct {
	row  row
	done chan struct{} // closed when the rest is filled in
	ex   *example
	err  error // why the row is unusable
}

// scan reads all rows of inputs, has them parsed and encoded by all cores, reports
// them, and hands the groups to add, in the order of the rows. Rows are bounded in
// number on the way. Without an encoder nothing is handed on.
func scan(ctx context.Context, o Options, inputs []rows.File, most int, add func(g data.Group, file string, row int) error) (*Report, error) {
	workers := runtime.GOMAXPROCS(0)
	work := make(chan *job, workers)
	ordered := make(chan *job, 8*workers)
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error {
		defer close(work)
		defer close(ordered)
		return readAll(ctx, inputs, func(r row) error {
			j := &job{row: r, done: make(chan struct{})}
			for _, to := range []chan *job{ordered, work} {
				select {
				case to <- j:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	})
	for range workers {
		tasks.Go(func() error {
			for j := range work {
				j.ex, j.err = o.encode(j.row)
				j.row.JSON = nil
				close(j.done)
			}
			return nil
		})
	}
	report := newReport(inputs, most)
	tasks.Go(func() error {
		return collect(ctx, o, inputs, ordered, report, add)
	})
	if err := tasks.Wait(); err != nil {
		return nil, err
	}
	if report.Groups == 0 {
		return nil, report.unusable()
	}
	report.finish()
	return report, nil
}

// collect takes finished jobs in the order of the rows.
func collect(ctx context.Context, o Options, inputs []rows.File, ordered <-chan *job, report *Report, add func(data.Group, string, int) error) error {
	total := int64(0)
	for _, in := range inputs {
		total += in.Bytes
	}
	for j := range ordered {
		select {
		case <-j.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		report.row(j)
		if j.err != nil && !o.SkipBad {
			return fmt.Errorf("nectar: read %s:%d: %w (mend the row, or set data.on_bad_row to skip)", j.row.file, j.row.Number, j.err)
		}
		if j.err == nil && add != nil {
			if err := add(j.ex.group, j.row.file, j.row.Number); err != nil {
				return err
			}
		}
		if o.Progress != nil {
			o.Progress(j.row.read, total)
		}
	}
	if o.Progress != nil && ctx.Err() == nil {
		o.Progress(total, total)
	}
	return ctx.Err()
}
