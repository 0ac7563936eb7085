package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A cache file, all numbers little endian, is
//
//	header   128 bytes, see header
//	tokens   uint16 or uint32 each, all answers after one another, then zeros up to a multiple of 8
//	answers  16 bytes each: rank float64; uint64 number of the token after its last
//	groups   48 bytes each: uint64 number of the answer after its last; uint64 row;
//	         margin float64; uint32 file; uint32 rows of PackRows when shared; prompt key
//	files    a JSON array of file names
//
// The header's checksum covers the header, and the one in it everything else.
const (
	magic      = "rmtrain groups 1"
	headerSize = 128
	answerSize = 16
	groupSize  = 48
	maxCount   = 1 << 40 // of anything; keeps sums of sizes far from overflow
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func checksumOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// A header is the first headerSize bytes of a cache file.
type header struct {
	width                          uint32 // bytes of a token, 2 or 4
	checksum                       uint32 // CRC-32C of the body
	tokens, answers, groups, files uint64 // counts; of files the bytes
	digest                         [32]byte
}

func (h header) tokenBytes() uint64 { return (h.tokens*uint64(h.width) + 7) &^ 7 }

// fileSize returns the length of the whole file.
func (h header) fileSize() uint64 {
	return headerSize + h.tokenBytes() + h.answers*answerSize + h.groups*groupSize + h.files
}

func (h header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	le.PutUint32(b[16:], h.width)
	le.PutUint32(b[20:], h.checksum)
	le.PutUint64(b[24:], h.tokens)
	le.PutUint64(b[32:], h.answers)
	le.PutUint64(b[40:], h.groups)
	le.PutUint64(b[48:], h.files)
	copy(b[64:], h.digest[:])
	le.PutUint32(b[headerSize-4:], checksumOf(b[:headerSize-4]))
	return b
}

func decodeHeader(b []byte) (header, error) {
	var h header
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return h, errors.New("not a file of tokenized groups, or of another version")
	}
	if checksumOf(b[:headerSize-4]) != le.Uint32(b[headerSize-4:]) {
		return h, errors.New("the header is damaged")
	}
	h.width, h.checksum = le.Uint32(b[16:]), le.Uint32(b[20:])
	h.tokens, h.answers = le.Uint64(b[24:]), le.Uint64(b[32:])
	h.groups, h.files = le.Uint64(b[40:]), le.Uint64(b[48:])
	copy(h.digest[:], b[64:])
	if h.width != 2 && h.width != 4 {
		return h, fmt.Errorf("tokens of %d bytes", h.width)
	}
	if max(h.tokens, h.answers, h.groups, h.files) > maxCount {
		return h, errors.New("the header counts more than any file can hold")
	}
	return h, nil
}
