package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Dataset is tokenized groups, memory-mapped from a cache file. It may be read
// by many goroutines at once.
type Dataset struct {
	m      *mapping
	sel    []int // which groups of the mapping, nil for all
	digest string
	closed atomic.Bool
}

// A mapping is a cache file in memory, shared by the Datasets that select from it.
type mapping struct {
	raw                     []byte
	head                    header
	tokens, answers, groups []byte
	files                   []string
	users                   atomic.Int32
}

// OpenDataset opens a cache file that a Writer made. It reads the whole file once,
// to verify its checksum.
func OpenDataset(path string) (*Dataset, error) {
	raw, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("data: open %s: %w", path, err)
	}
	m, err := parse(raw)
	if err != nil {
		unix.Munmap(raw)
		return nil, fmt.Errorf("data: open %s: %w (delete it; it will be made again)", path, err)
	}
	m.users.Store(1)
	return &Dataset{m: m, digest: hex.EncodeToString(m.head.digest[:])}, nil
}

func mapFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() < headerSize {
		return nil, errors.New("not a file of tokenized groups (delete it; it will be made again)")
	}
	return unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
}

// parse checks the bytes of a cache file so that no later access can fail.
func parse(raw []byte) (*mapping, error) {
	h, err := decodeHeader(raw)
	if err != nil {
		return nil, err
	}
	if h.fileSize() != uint64(len(raw)) {
		return nil, fmt.Errorf("%d bytes long, should be %d", len(raw), h.fileSize())
	}
	body := raw[headerSize:]
	if checksumOf(body) != h.checksum {
		return nil, errors.New("the content is damaged")
	}
	m := &mapping{raw: raw, head: h}
	m.tokens, body = body[:h.tokenBytes()], body[h.tokenBytes():]
	m.answers, body = body[:h.answers*answerSize], body[h.answers*answerSize:]
	m.groups, body = body[:h.groups*groupSize], body[h.groups*groupSize:]
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&m.files); err != nil {
		return nil, fmt.Errorf("file names: %w", err)
	}
	return m, m.checkIndex()
}

// checkIndex sees that answers and groups follow one another without holes.
func (m *mapping) checkIndex() error {
	last := uint64(0)
	for i := range int(m.head.answers) {
		end := m.answerEnd(i)
		if end <= last || end > m.head.tokens {
			return fmt.Errorf("answer %d is out of order", i)
		}
		last = end
	}
	if last != m.head.tokens {
		return errors.New("tokens without an answer")
	}
	last = 0
	for i := range int(m.head.groups) {
		end := m.groupEnd(i)
		if end <= last || end > m.head.answers {
			return fmt.Errorf("group %d is out of order", i)
		}
		if f := le.Uint32(m.groups[i*groupSize+24:]); uint64(f) >= uint64(len(m.files)) {
			return fmt.Errorf("group %d is of an unknown file", i)
		}
		last = end
	}
	if last != m.head.answers {
		return errors.New("answers without a group")
	}
	return nil
}

func (m *mapping) answerEnd(i int) uint64 { return le.Uint64(m.answers[i*answerSize+8:]) }
func (m *mapping) groupEnd(i int) uint64  { return le.Uint64(m.groups[i*groupSize:]) }

// answersOf returns the numbers [lo, hi) of the answers of group i.
func (m *mapping) answersOf(i int) (lo, hi int) {
	if i > 0 {
		lo = int(m.groupEnd(i - 1))
	}
	return lo, int(m.groupEnd(i))
}

// tokensOf returns the numbers [lo, hi) of the tokens of answers [first, end).
func (m *mapping) tokensOf(first, end int) (lo, hi int) {
	if first > 0 {
		lo = int(m.answerEnd(first - 1))
	}
	return lo, int(m.answerEnd(end - 1))
}

// Len returns the number of groups.
func (d *Dataset) Len() int {
	if d.sel != nil {
		return len(d.sel)
	}
	return int(d.m.head.groups)
}

// at returns the record of group i and its number in the mapping.
func (d *Dataset) at(i int) (record []byte, number int) {
	if d.closed.Load() {
		panic("data: a Dataset is used after Close")
	}
	if d.sel != nil {
		i = d.sel[i]
	}
	return d.m.groups[i*groupSize : (i+1)*groupSize], i
}

// Group returns number i, whose tokens are the caller's to keep.
func (d *Dataset) Group(i int) Group {
	record, n := d.at(i)
	first, end := d.m.answersOf(n)
	lo, hi := d.m.tokensOf(first, end)
	tokens := d.m.read(lo, hi)
	g := Group{
		Source:  fmt.Sprintf("%s:%d", d.m.files[le.Uint32(record[24:])], le.Uint64(record[8:])),
		Margin:  math.Float64frombits(le.Uint64(record[16:])),
		Prompt:  PromptKey(record[32:]),
		Answers: make([]Answer, end-first),
	}
	for k := range g.Answers {
		a := first + k
		from, to := d.m.tokensOf(a, a+1)
		g.Answers[k] = Answer{
			Tokens: tokens[from-lo : to-lo : to-lo],
			Rank:   math.Float64frombits(le.Uint64(d.m.answers[a*answerSize:])),
		}
	}
	return g
}

// read returns a copy of tokens [lo, hi).
func (m *mapping) read(lo, hi int) []int32 {
	out := make([]int32, hi-lo)
	if m.head.width == 2 {
		src := m.tokens[2*lo : 2*hi]
		for i := range out {
			out[i] = int32(le.Uint16(src[2*i:]))
		}
		return out
	}
	src := m.tokens[4*lo : 4*hi]
	for i := range out {
		out[i] = int32(le.Uint32(src[4*i:]))
	}
	return out
}

// Rows returns PackRows of group i, without reading its tokens.
func (d *Dataset) Rows(i int, share bool) int {
	record, n := d.at(i)
	if share {
		return int(le.Uint32(record[28:]))
	}
	lo, hi := d.m.tokensOf(d.m.answersOf(n))
	return hi - lo
}

// Prompt returns the key of the prompt of group i.
func (d *Dataset) Prompt(i int) PromptKey {
	record, _ := d.at(i)
	return PromptKey(record[32:])
}

// Select returns the given groups of d, in that order, as a Dataset of its own
// that must be closed as well. They share the memory of d.
func (d *Dataset) Select(groups []int) *Dataset {
	sel := make([]int, len(groups))
	h := sha256.New()
	h.Write([]byte(d.digest))
	for i, g := range groups {
		_, sel[i] = d.at(g)
		h.Write(le.AppendUint64(nil, uint64(sel[i])))
	}
	d.m.users.Add(1)
	return &Dataset{m: d.m, sel: sel, digest: hex.EncodeToString(h.Sum(nil))}
}

// Digest identifies the content: ids, ranks, margins and order.
func (d *Dataset) Digest() string { return d.digest }

// Close releases the memory, once all that share it are closed. Closing twice
// does nothing.
func (d *Dataset) Close() error {
	if d.closed.Swap(true) || d.m.users.Add(-1) > 0 {
		return nil
	}
	return unix.Munmap(d.m.raw)
}
