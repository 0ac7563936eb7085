package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/schema"
)

// readParquet reads the columns that are asked for, or all if there are none, and makes
// a JSON object of every row. It reads the columns by themselves and assembles the rows
// itself, on this goroutine: the library's own conversion to Arrow starts goroutines,
// in which a damaged page panics where nothing can recover.
func readParquet(path string, columns []string, emit emitter) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var pf *file.Reader
	err = undamaged(func() (err error) {
		props := parquet.NewReaderProperties(memory.DefaultAllocator)
		props.BufferedStreamEnabled = true // a row group may be the whole file
		pf, err = file.NewParquetReader(f, file.WithReadProps(props))
		return err
	})
	if err != nil {
		return fmt.Errorf("not a Parquet file, or a damaged one: %w", err)
	}
	number := 0
	for g := range pf.NumRowGroups() {
		if err := readRowGroup(pf, g, columns, &number, emit); err != nil {
			return err
		}
	}
	return nil
}

func readRowGroup(pf *file.Reader, group int, columns []string, number *int, emit emitter) error {
	where := func(err error) error {
		return fmt.Errorf("row group %d of %d: %w", group+1, pf.NumRowGroups(), err)
	}
	var root *node
	var rows int64
	err := undamaged(func() (err error) {
		rg := pf.RowGroup(group)
		rows = rg.NumRows()
		root, err = newTree(pf.MetaData().Schema, rg, columns)
		return err
	})
	if err != nil {
		return where(err)
	}
	for range rows {
		var line []byte
		if err := undamaged(func() (err error) { line, err = root.row(); return err }); err != nil {
			return where(fmt.Errorf("row %d: %w", *number+1, err))
		}
		if len(line) > maxRow {
			return where(fmt.Errorf("row %d is longer than %d MB", *number+1, maxRow>>20))
		}
		*number++
		if err := emit(*number, line); err != nil {
			return err
		}
	}
	return nil
}

// undamaged returns the panics of f, with which the library answers damaged files, as
// errors.
func undamaged(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file is damaged: %v", p)
		}
	}()
	return f()
}

// A node is a field of the schema. Its levels are those of Parquet: a value of
// definition level below defined means that the node itself is null or empty.
type node struct {
	name     string
	kind     parquet.Repetition
	defined  int16 // the definition level at which the node is there
	repeated int16 // the repetition level at which another element of it begins
	children []*node
	isList   bool  // a group that stands for a list: its only child is repeated
	bare     bool  // a repeated group with one child, which only carries that child
	leaf     *leaf // nil for groups
}

// newTree opens the columns that are asked for.
func newTree(s *schema.Schema, rg *file.RowGroupReader, columns []string) (*node, error) {
	root := &node{kind: parquet.Repetitions.Required}
	next := 0
	for i := range s.Root().NumFields() {
		field := s.Root().Field(i)
		skip := len(columns) > 0 && !slices.Contains(columns, field.Name())
		child, err := newNode(field, rg, 0, 0, &next, skip)
		if err != nil {
			return nil, err
		}
		if !skip {
			root.children = append(root.children, child)
		}
	}
	return root, nil
}

// newNode makes the tree under a field. next is the number of the next leaf column.
func newNode(from schema.Node, rg *file.RowGroupReader, def, rep int16, next *int, skip bool) (*node, error) {
	n := &node{name: from.Name(), kind: from.RepetitionType()}
	if n.kind != parquet.Repetitions.Required {
		def++
	}
	if n.kind == parquet.Repetitions.Repeated {
		rep++
	}
	n.defined, n.repeated = def, rep
	group, ok := from.(*schema.GroupNode)
	if !ok {
		column := *next
		*next++
		if skip {
			return n, nil
		}
		reader, err := rg.Column(column)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", from.Path(), err)
		}
		n.leaf = &leaf{column: reader, path: from.Path()}
		return n, nil
	}
	for i := range group.NumFields() {
		child, err := newNode(group.Field(i), rg, def, rep, next, skip)
		if err != nil {
			return nil, err
		}
		n.children = append(n.children, child)
	}
	if len(n.children) == 0 {
		return nil, fmt.Errorf("column %s is a group without fields", from.Path())
	}
	if from.ConvertedType() == schema.ConvertedTypes.List && len(n.children) == 1 && n.children[0].kind == parquet.Repetitions.Repeated {
		n.isList = true
		only := n.children[0]
		only.bare = len(only.children) == 1 && only.name != "array" && only.name != n.name+"_tuple"
	}
	return n, nil
}

// row returns the next row.
func (n *node) row() ([]byte, error) {
	object, err := n.object()
	if err != nil {
		return nil, err
	}
	return json.Marshal(object)
}

func (n *node) object() (map[string]any, error) {
	object := make(map[string]any, len(n.children))
	for _, c := range n.children {
		value, err := c.value()
		if err != nil {
			return nil, err
		}
		object[c.name] = value
	}
	return object, nil
}

// first is a leaf under n; the levels of all of them agree about n.
func (n *node) first() *leaf {
	for n.leaf == nil {
		n = n.children[0]
	}
	return n.leaf
}

// value reads what belongs to n up to the next element of what n is in.
func (n *node) value() (any, error) {
	def, err := n.first().level()
	if err != nil {
		return nil, err
	}
	if n.kind == parquet.Repetitions.Repeated {
		return n.elements(def)
	}
	if def < n.defined {
		return nil, n.skip()
	}
	return n.content()
}

// elements reads all elements of a repeated node.
func (n *node) elements(def int16) (any, error) {
	list := []any{}
	if def < n.defined {
		return list, n.skip()
	}
	for {
		element, err := n.content()
		if err != nil {
			return nil, err
		}
		list = append(list, element)
		_, rep, err := n.first().peek()
		if errors.Is(err, io.EOF) || err == nil && rep < n.repeated {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// content reads n itself, which is there.
func (n *node) content() (any, error) {
	switch {
	case n.leaf != nil:
		return n.leaf.take()
	case n.isList, n.bare:
		return n.children[0].value()
	}
	return n.object()
}

// skip takes the one entry that stands for a missing n from every leaf under it.
func (n *node) skip() error {
	if n.leaf != nil {
		_, err := n.leaf.take()
		return err
	}
	for _, c := range n.children {
		if err := c.skip(); err != nil {
			return err
		}
	}
	return nil
}
