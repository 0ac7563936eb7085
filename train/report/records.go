package report

import (
	"encoding/binary"
	"hash/crc32"
)

// An event file is a sequence of TFRecords: the length of the data as uint64, the
// masked CRC-32C of these eight bytes, the data, and its masked CRC-32C; all
// integers are little-endian.
const (
	recordHead = 12
	recordTail = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is the checksum of a TFRecord: a CRC that is stored beside its data is
// rotated and shifted, so that a CRC over both is not degenerate.
func masked(data []byte) uint32 {
	c := crc32.Checksum(data, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

func appendRecord(to, data []byte) []byte {
	at := len(to)
	to = binary.LittleEndian.AppendUint64(to, uint64(len(data)))
	to = binary.LittleEndian.AppendUint32(to, masked(to[at:]))
	to = append(to, data...)
	return binary.LittleEndian.AppendUint32(to, masked(data))
}

// records returns the data of the records in file up to the first damaged one, as a
// process that was killed leaves it. They are parts of file.
func records(file []byte) [][]byte {
	var all [][]byte
	for len(file) >= recordHead+recordTail {
		n := binary.LittleEndian.Uint64(file)
		if binary.LittleEndian.Uint32(file[8:]) != masked(file[:8]) || n > uint64(len(file)-recordHead-recordTail) {
			break
		}
		data := file[recordHead : recordHead+n]
		file = file[recordHead+n:]
		if binary.LittleEndian.Uint32(file) != masked(data) {
			break
		}
		all = append(all, data)
		file = file[recordTail:]
	}
	return all
}
