//go:build nvidia

package cuda

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"gorgonia.org/cu"

	"rmtrain/kernels"
)

// Indices are on the device, so a kernel that meets one outside of its range leaves memory
// alone and writes the number of its operation into the fault word, which Sync reads.
const (
	faultRoPE int32 = iota + 1
	faultEmbed
	faultEmbedBack
	faultScatter
	faultValueHead
	faultValueHeadBack
)

var faults = map[int32]string{
	faultRoPE:          "RoPE: a position is outside of the table",
	faultEmbed:         "Embed: an id is outside of the table",
	faultEmbedBack:     "EmbedBack: an id is outside of the table",
	faultScatter:       "Scatter: an id is outside of the table",
	faultValueHead:     "ValueHead: a row is outside of the batch",
	faultValueHeadBack: "ValueHeadBack: a row is outside of the batch",
}

// Sync waits for all operations and returns the first failure.
func (b *backend) Sync() error {
	b.do("wait for the device", b.settle)
	if b.asked {
		b.do("read the fault word", b.readFault)
	}
	return b.err
}

func (b *backend) readFault() error {
	var word [4]byte
	if err := cu.MemcpyDtoH(unsafe.Pointer(&word), cu.DevicePtr(b.fault.at), int64(len(word))); err != nil {
		return err
	}
	b.asked = false
	if number := int32(binary.LittleEndian.Uint32(word[:])); number != 0 {
		return fmt.Errorf("%s (do the tokens belong to this model?)", faults[number])
	}
	return nil
}

// Embed copies rows of table.
func (b *backend) Embed(out, table, ids kernels.Tensor) {
	n, cols := ids.Len(), table.Cols()
	if !matrix(out, b.act, n, cols) || !columns(table, b.act, table.Rows(), cols) || !vector(ids, kernels.I32, n) {
		panic(misfit("Embed", out, table, ids))
	}
	o, t, i := b.addr(out), b.columnsAddr(table), b.addr(ids)
	row, stride := cols*b.act.Size(), table.RowStride()*b.act.Size()
	unit := copyUnit(row|stride, o, t)
	b.asked = true
	b.run("Embed", fmt.Sprintf("embed_%d", unit), dim{n, 1, 1}, line(256), o, t, i, b.fault.at, faultEmbed, int32(table.Rows()), int32(row/unit), int32(stride/unit))
}

// copyUnit returns the largest unit in which rows can be copied, given the bytes that they
// have and begin after each other, or'ed.
func copyUnit(rows int, at ...address) int {
	all := address(rows)
	for _, a := range at {
		all |= a
	}
	switch {
	case all%16 == 0:
		return 16
	case all%4 == 0:
		return 4
	}
	return 2
}

// EmbedBack adds rows of dout to rows of dtable; see kernels.Ops.
func (b *backend) EmbedBack(dtable, dout, ids kernels.Tensor, skip int32) {
	n, cols := ids.Len(), dtable.Cols()
	if !matrix(dtable, kernels.F32, dtable.Rows(), cols) || !matrix(dout, b.act, n, cols) || !vector(ids, kernels.I32, n) {
		panic(misfit("EmbedBack", dtable, dout, ids))
	}
	t, d, i, limit := b.addr(dtable), b.addr(dout), b.addr(ids), int32(dtable.Rows())
	b.linked("EmbedBack", faultEmbedBack, i, n, limit, skip, func(next, follows address) error {
		return b.launch(typed("embed_back", b.act), dim{n, 1, 1}, rowBlock(cols), 0,
			t, d, i, next, follows, int32(n), limit, skip, int32(cols), aligned(cols, t, d))
	})
}

// Scatter overwrites dtable by sums of rows of dout; see kernels.Ops.
func (b *backend) Scatter(dtable, dout, ids kernels.Tensor) {
	n, cols := ids.Len(), dtable.Cols()
	if !columns(dtable, b.act, dtable.Rows(), cols) || !matrix(dout, b.act, n, cols) || !vector(ids, kernels.I32, n) {
		panic(misfit("Scatter", dtable, dout, ids))
	}
	t, d, i, limit, stride := b.columnsAddr(dtable), b.addr(dout), b.addr(ids), int32(dtable.Rows()), dtable.RowStride()
	b.zero("Scatter", dtable)
	b.linked("Scatter", faultScatter, i, n, limit, noSkip, func(next, follows address) error {
		return b.launch(typed("scatter", b.act), dim{n, 1, 1}, rowBlock(cols), 0,
			t, d, i, next, follows, int32(n), limit, int32(cols), int32(stride), aligned(cols|stride, t, d))
	})
}

const noSkip int32 = -1 // no index is negative

// linked launches a kernel over n rows that needs to know which have the same index; see
// link_rows in embed.cu.
func (b *backend) linked(op string, fault int32, ids address, n int, limit, skip int32, launch func(next, follows address) error) {
	b.asked = true
	b.do(op, func() error {
		if err := b.grow(&b.links, 8*n); err != nil || n == 0 {
			return err
		}
		next, follows := b.links.at, b.links.at+address(4*n)
		if err := b.clear(follows, 4*n); err != nil {
			return err
		}
		if err := b.launch("link_rows", dim{up(n, 4), 1, 1}, line(128), 0, next, follows, ids, b.fault.at, fault, int32(n), limit, skip); err != nil {
			return err
		}
		return launch(next, follows)
	})
}

// ValueHead computes the scores of rows of x.
func (b *backend) ValueHead(score, x, rows, w kernels.Tensor) {
	n, cols := rows.Len(), x.Cols()
	if !vector(score, kernels.F32, n) || !matrix(x, b.act, x.Rows(), cols) || !vector(rows, kernels.I32, n) || !vector(w, b.act, cols) {
		panic(misfit("ValueHead", score, x, rows, w))
	}
	s, p, i, g := b.addr(score), b.addr(x), b.addr(rows), b.addr(w)
	b.asked = true
	b.run("ValueHead", typed("value_head", b.act), dim{n, 1, 1}, rowBlock(cols),
		s, p, i, g, b.fault.at, faultValueHead, int32(x.Rows()), int32(cols), aligned(cols, p, g))
}

// ValueHeadBack overwrites dx and adds to dw; see kernels.Ops.
func (b *backend) ValueHeadBack(dx, dw, dscore, x, rows, w kernels.Tensor) {
	n, cols := rows.Len(), x.Cols()
	if !matrix(dx, b.act, x.Rows(), cols) || !vector(dw, kernels.F32, cols) || !vector(dscore, kernels.F32, n) ||
		!matrix(x, b.act, x.Rows(), cols) || !vector(rows, kernels.I32, n) || !vector(w, b.act, cols) {
		panic(misfit("ValueHeadBack", dx, dw, dscore, x, rows, w))
	}
	d, to, s, p, i, g, limit := b.addr(dx), b.addr(dw), b.addr(dscore), b.addr(x), b.addr(rows), b.addr(w), int32(x.Rows())
	b.Zero(dx)
	b.linked("ValueHeadBack", faultValueHeadBack, i, n, limit, noSkip, func(next, follows address) error {
		err := b.launch(typed("value_head_dx", b.act), dim{n, 1, 1}, rowBlock(cols), 0,
			d, s, i, next, follows, g, int32(n), limit, int32(cols), aligned(cols, d, g))
		if err != nil {
			return err
		}
		return b.launch(typed("value_head_dw", b.act), dim{up(cols, 128*pack), 1, 1}, line(128), 0,
			to, s, p, i, int32(n), limit, int32(cols), aligned(cols, to, p))
	})
}
