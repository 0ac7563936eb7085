package hub

import (
	"context"
	"crypto/sha1" // git's name of a file
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
)

// A blob is a content on its way into the cache. What has come is always the
// beginning of it: huggingface_hub takes the length of a partial file for what can
// be resumed, and checks no digest at its end.
type blob struct {
	*source
	path  string // of the partial file
	file  *os.File
	done  int64 // bytes in file
	sum   hash.Hash
	meter *meter
}

// openBlob opens the partial file of a content and reads what is in it.
func openBlob(ctx context.Context, s *source, path string, m *meter) (*blob, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, diskError(err)
	}
	b := &blob{source: s, path: path, file: file, meter: m}
	if err := b.resume(ctx); err != nil {
		file.Close()
		return nil, err
	}
	return b, nil
}

// resume hashes what an earlier download has left.
func (b *blob) resume(ctx context.Context) error {
	info, err := b.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() > b.size {
		return b.restart()
	}
	b.sum = newSum(b.etag, b.size)
	buf := make([]byte, 1<<20)
	for b.done < info.Size() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := b.file.ReadAt(buf[:min(int64(len(buf)), info.Size()-b.done)], b.done)
		if n == 0 {
			return fmt.Errorf("read %s: %w (delete it)", b.path, err)
		}
		b.sum.Write(buf[:n])
		b.done += int64(n)
		b.meter.add(int64(n))
	}
	return nil
}

// restart throws away what is here.
func (b *blob) restart() error {
	b.meter.add(-b.done)
	b.done = 0
	b.sum = newSum(b.etag, b.size)
	return b.file.Truncate(0)
}

// newSum returns what computes the digest that an ETag is.
func newSum(etag string, size int64) hash.Hash {
	if len(etag) == sha256.Size*2 {
		return sha256.New()
	}
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", size)
	return h
}

// Write adds the next bytes, which were counted as they came.
func (b *blob) Write(p []byte) (int, error) {
	n, err := b.file.WriteAt(p, b.done)
	b.sum.Write(p[:n])
	b.done += int64(n)
	return n, diskError(err)
}

// errDigest says that all bytes have come and are not those that the hub promised.
var errDigest = errors.New("the content is damaged")

// verify compares the content with the digest that the hub has named. An ETag that
// is neither SHA-256 nor SHA-1, as other servers than the hub may send, says nothing.
func (b *blob) verify() error {
	if b.done != b.size {
		return fmt.Errorf("%w: it has %d of %d bytes", errDigest, b.done, b.size)
	}
	if _, err := hex.DecodeString(b.etag); err != nil || len(b.etag) != 2*b.sum.Size() {
		return nil
	}
	if got := hex.EncodeToString(b.sum.Sum(nil)); got != b.etag {
		return fmt.Errorf("%w: its digest is %s, and the hub says %s", errDigest, got, b.etag)
	}
	return nil
}

// fill downloads what is missing.
func (b *blob) fill(ctx context.Context) error {
	if b.size-b.done > 2*piece {
		err := b.parallel(ctx)
		if !errors.Is(err, errNoRanges) {
			return err
		}
	}
	return b.stream(ctx)
}

// stream downloads the rest in one piece, and goes on where a connection breaks.
func (b *blob) stream(ctx context.Context) error {
	return b.client.retry(ctx, func() (bool, error) {
		before := b.done
		err := b.streamOnce(ctx)
		return b.done > before, err
	})
}

func (b *blob) streamOnce(ctx context.Context) error {
	if b.done == b.size {
		return nil
	}
	body, start, err := b.open(ctx, b.done, b.size)
	if err != nil {
		return err
	}
	defer body.Close()
	// From a server that ignores ranges, what is already here comes again.
	if _, err := io.CopyN(io.Discard, body, b.done-start); err != nil {
		return b.broken(ctx, b.done, err)
	}
	if _, err := io.CopyN(b, reading{counting{body, b.meter}}, b.size-b.done); err != nil {
		var r readError
		if !errors.As(err, &r) && err != io.EOF {
			return err // of the disk
		}
		return b.broken(ctx, b.done, err)
	}
	return nil
}

// A readError is an error of the network, not of the disk, in a copy between them.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

type reading struct{ r io.Reader }

// Read implements io.Reader.
func (r reading) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = readError{err}
	}
	return n, err
}
