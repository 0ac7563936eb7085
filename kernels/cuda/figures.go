//go:build nvidia

package cuda

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gorgonia.org/cu"
)

// staticTable is what ptxas made of the PTX; dynamicShared is what of its shared memory
// launches ask for. static.sh writes and reads them.
//
//go:embed testdata/static.txt
var staticTable string

//go:embed testdata/dynamic_shared.txt
var dynamicShared string

// A Figure is what a kernel takes of a multiprocessor, as the driver says of the code that
// it made of the kernel's PTX.
type Figure struct {
	Kernel    string
	Registers int // of a thread; 0 if the driver does not say
	Local     int // bytes of a thread in local memory, which are spills and arrays
	Shared    int // bytes of a block, without those that a launch asks for

	Table string // the architecture for which the next are; "" if the table has none for this GPU
	// What ptxas gave for the same PTX.
	TableRegisters, TableShared int
}

// Figures opens the device of that number and returns those of all kernels, by name.
func Figures(ordinal int) ([]Figure, error) {
	d, err := openDevice(ordinal, images())
	if err != nil {
		return nil, err
	}
	all, err := d.figures()
	if e := d.close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("cuda: figures of the kernels on device %d: %w", ordinal, err)
	}
	return all, nil
}

func (d *device) figures() (all []Figure, err error) {
	major, minor, err := d.cu.ComputeCapability()
	if err != nil {
		return nil, err
	}
	architecture := tableArchitecture(10*major + minor)
	table, err := tableRows(architecture)
	if err != nil {
		return nil, err
	}
	err = d.with(func() error {
		for name, k := range d.kernels {
			f := Figure{Kernel: name, Table: architecture, TableRegisters: table[name].registers, TableShared: table[name].shared}
			if err := f.ask(k.Function); err != nil {
				return fmt.Errorf("kernel %s: %w", name, err)
			}
			all = append(all, f)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Figure) int { return strings.Compare(a.Kernel, b.Kernel) })
	return all, err
}

// ask fills in what the driver says.
func (f *Figure) ask(function cu.Function) (err error) {
	for _, q := range []struct {
		to        *int
		attribute cu.FunctionAttribute
	}{{&f.Registers, cu.NumRegs}, {&f.Local, cu.LocalSizeBytes}, {&f.Shared, cu.SharedSizeBytes}} {
		if *q.to, err = function.Attribute(q.attribute); err != nil {
			return err
		}
	}
	return nil
}

// tableArchitecture is the one in staticTable whose code a GPU of that capability, times
// ten, runs; "" if it has none.
func tableArchitecture(capability int) string {
	switch capability {
	case 80:
		return "sm_80"
	case 90:
		return "sm_90a"
	}
	return ""
}

// A tableRow is a kernel's on one architecture.
type tableRow struct{ registers, shared int }

// tableRows returns those of one architecture by kernel. Shared memory is without what
// launches ask for.
func tableRows(architecture string) (map[string]tableRow, error) {
	dynamic := map[string]int{}
	for line := range strings.Lines(dynamicShared) {
		f := strings.Fields(line)
		if len(f) != 2 || strings.HasPrefix(line, "#") {
			continue
		}
		n, err := strconv.Atoi(f[1])
		if err != nil {
			return nil, fmt.Errorf("dynamic_shared.txt: %w", err)
		}
		dynamic[f[0]] = n
	}
	rows := map[string]tableRow{}
	for line := range strings.Lines(staticTable) {
		f := strings.Fields(line) // kernel, architecture, registers, spills, shared, ...
		if len(f) < 5 || f[1] != architecture {
			continue
		}
		registers, err := strconv.Atoi(f[2])
		if err != nil {
			return nil, fmt.Errorf("static.txt: %w", err)
		}
		shared, err := strconv.Atoi(f[4])
		if err != nil {
			return nil, fmt.Errorf("static.txt: %w", err)
		}
		rows[f[0]] = tableRow{registers, shared - dynamic[f[0]]}
	}
	return rows, nil
}
