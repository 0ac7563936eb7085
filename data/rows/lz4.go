package rows

import (
	"encoding/binary"
	"io"
	_ "unsafe" // for go:linkname

	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/pierrec/lz4/v4"
)

// The Arrow library reads every codec but LZ4, and has no way to add one except
// through its own table.
//
//go:linkname arrowCodecs github.com/apache/arrow/go/v15/parquet/compress.codecs
var arrowCodecs map[compress.Compression]compress.Codec

// Parquet has two LZ4s: the deprecated one, with Hadoop's framing, and LZ4_RAW.
const lz4Raw = compress.Compression(7)

// addLZ4 lets this process read LZ4.
func addLZ4() {
	arrowCodecs[compress.Codecs.Lz4] = lz4Codec{}
	arrowCodecs[lz4Raw] = lz4Codec{}
}

// An lz4Codec only decodes.
type lz4Codec struct{ compress.Codec }

func (lz4Codec) NewReader(io.Reader) io.ReadCloser { panic("rows: LZ4 is not read as a stream") }

// Decode fills dst, whose length is that of the page. Like the library's own codecs
// it panics on damaged input.
func (lz4Codec) Decode(dst, src []byte) []byte {
	if n, ok := decodeHadoop(dst, src); ok {
		return dst[:n]
	}
	n, err := lz4.UncompressBlock(src, dst)
	if err != nil {
		panic("lz4: corrupt input")
	}
	return dst[:n]
}

// decodeHadoop reads blocks that each begin with both of their lengths.
func decodeHadoop(dst, src []byte) (n int, ok bool) {
	for len(src) > 0 {
		if len(src) < 8 {
			return 0, false
		}
		raw, packed := int(binary.BigEndian.Uint32(src)), int(binary.BigEndian.Uint32(src[4:]))
		src = src[8:]
		if packed > len(src) || raw > len(dst)-n {
			return 0, false
		}
		got, err := lz4.UncompressBlock(src[:packed], dst[n:n+raw])
		if err != nil || got != raw {
			return 0, false
		}
		n, src = n+raw, src[packed:]
	}
	return n, true
}
