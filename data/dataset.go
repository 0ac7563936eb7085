package data

// A Dataset is tokenized groups, memory-mapped from a cache file. It may be read
// by many goroutines at once.
type Dataset struct{}

// OpenDataset opens a cache file that a Writer made.
func OpenDataset(path string) (*Dataset, error) { panic("contract") }

// Len returns the number of groups; Group returns number i, whose tokens are the
// caller's to keep.
func (d *Dataset) Len() int          { panic("contract") }
func (d *Dataset) Group(i int) Group { panic("contract") }

// Digest identifies the content.
func (d *Dataset) Digest() string { panic("contract") }
func (d *Dataset) Close() error   { panic("contract") }
