package hub

import (
	"context"
	"io"

	"golang.org/x/sync/errgroup"
)

// Files of more than two pieces come in pieces over several connections. The pieces
// wait in memory until all before them are in the file: connections*piece bytes.
var piece = int64(8 << 20) // tests make it small

const connections = 8

// A part is a piece that has come, or its beginning and why no more.
type part struct {
	bytes []byte
	err   error
}

// parallel downloads the rest in pieces. Whatever ends it, the file holds the
// beginning of the content.
func (b *blob) parallel(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	g, ctx := errgroup.WithContext(ctx)
	queue := make(chan chan part, connections-2) // and one in each hand
	begin := b.done
	g.Go(func() error {
		defer close(queue)
		for from := begin; from < b.size; from += piece {
			next := make(chan part, 1)
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case queue <- next:
			}
			g.Go(func() error {
				bytes, err := b.part(ctx, from, min(from+piece, b.size))
				next <- part{bytes, err}
				return nil
			})
		}
		return nil
	})
	err := b.collect(queue)
	cancel(err)
	for next := range queue { // the producer has stopped, or is about to
		b.meter.add(-int64(len((<-next).bytes)))
	}
	if stopped := g.Wait(); err == nil {
		err = stopped
	}
	return err
}

// collect writes the parts in their order.
func (b *blob) collect(queue <-chan chan part) error {
	for next := range queue {
		p := <-next
		if _, err := b.Write(p.bytes); err != nil {
			return err
		}
		if p.err != nil {
			return p.err
		}
	}
	return nil
}

// part downloads the bytes [from, to) and counts them as they come. With an error
// comes what was there before it.
func (b *blob) part(ctx context.Context, from, to int64) ([]byte, error) {
	buf := make([]byte, to-from)
	n := 0
	err := b.client.retry(ctx, func() (bool, error) {
		before := n
		body, start, err := b.open(ctx, from+int64(n), to)
		if err != nil {
			return false, err
		}
		defer body.Close()
		if start != from+int64(n) {
			return false, errNoRanges
		}
		m, err := io.ReadFull(counting{body, b.meter}, buf[n:])
		n += m
		if err != nil {
			return n > before, b.broken(ctx, from+int64(n), err)
		}
		return true, nil
	})
	return buf[:n], err
}
