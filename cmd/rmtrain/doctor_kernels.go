package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A kernelFigure is what a kernel of the CUDA backend takes of a multiprocessor, by what the
// driver says of its code.
type kernelFigure struct {
	Kernel    string `json:"kernel"`
	Registers int    `json:"registers"`           // of a thread; 0 if the driver does not say
	Local     int    `json:"local_bytes"`         // of a thread: spills and arrays
	Shared    int    `json:"static_shared_bytes"` // of a block
	// What ptxas gave for that architecture from the same PTX; none if it was not asked.
	Architecture   string `json:"ptxas_architecture,omitempty"`
	TableRegisters int    `json:"ptxas_registers,omitempty"`
	TableShared    int    `json:"ptxas_static_shared_bytes,omitempty"`
}

// kernelFigures looks at the code that the driver has made.
func (d *doctor) kernelFigures(context.Context) finding {
	if !d.gpuOpens {
		return skip("the GPU does not open; see above")
	}
	figures, err := kernelFiguresOf(d.number)
	if err != nil {
		return fail(err)
	}
	d.report.Kernels = figures
	return judgedKernels(figures)
}

// judgedKernels fails for spills: local memory is memory, and kernels that were written to
// hold their sums in registers are slow with it. Another number of registers is told and no
// failure, as the driver compiles PTX by itself.
func judgedKernels(figures []kernelFigure) finding {
	if len(figures) == 0 {
		return fail(errors.New("the driver has taken no kernel"))
	}
	var spilled, others []string
	same, told := 0, true
	for _, f := range figures {
		if f.Local > 0 {
			spilled = append(spilled, fmt.Sprintf("%s has %d bytes a thread", f.Kernel, f.Local))
		}
		switch {
		case f.Registers == 0:
			told = false
		case f.Architecture == "":
		default:
			if text := f.difference(); text != "" {
				others = append(others, text)
			} else {
				same++
			}
		}
	}
	if len(spilled) > 0 {
		return fail(fmt.Errorf("%d of %d kernels spill into local memory: %s (attach the report to an issue, and try another driver)", len(spilled), len(figures), strings.Join(spilled, ", ")))
	}
	detail := fmt.Sprintf("%d kernels without local memory", len(figures))
	switch architecture := figures[0].Architecture; {
	case !told:
		detail += "; of registers the driver says nothing"
	case architecture == "":
		detail += "; there are no figures of ptxas for this architecture to compare registers with"
	case len(others) == 0:
		detail += fmt.Sprintf("; registers and shared memory are those that ptxas gave for %s", architecture)
	default:
		slices.Sort(others)
		detail += fmt.Sprintf("; registers and shared memory of %d are those that ptxas gave for %s, not of %s", same, architecture, strings.Join(others, ", "))
	}
	return pass("%s", detail)
}

// difference is in what the driver's code differs from ptxas's. ptxas rounds shared memory up
// to 128 bytes if more is asked for at launch; whether the driver tells that is open.
func (f kernelFigure) difference() string {
	rounded := func(n int) int { return (n + 127) / 128 }
	var parts []string
	if f.Registers != f.TableRegisters {
		parts = append(parts, fmt.Sprintf("%d registers for %d", f.Registers, f.TableRegisters))
	}
	if rounded(f.Shared) != rounded(f.TableShared) {
		parts = append(parts, fmt.Sprintf("%d bytes of shared memory for %d", f.Shared, f.TableShared))
	}
	if len(parts) == 0 {
		return ""
	}
	return f.Kernel + " (" + strings.Join(parts, ", ") + ")"
}
