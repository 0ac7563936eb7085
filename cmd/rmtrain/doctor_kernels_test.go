package main

import (
	"strings"
	"testing"
)

func TestKernelsAreJudgedBySpills(t *testing.T) {
	t.Parallel()
	same := kernelFigure{Kernel: "same", Registers: 40, Shared: 256, Architecture: "sm_90a", TableRegisters: 40, TableShared: 256}
	rounded := kernelFigure{Kernel: "rounded", Registers: 40, Shared: 60, Architecture: "sm_90a", TableRegisters: 40, TableShared: 128}
	other := kernelFigure{Kernel: "other", Registers: 48, Shared: 512, Architecture: "sm_90a", TableRegisters: 40, TableShared: 256}
	spilled := kernelFigure{Kernel: "spilled", Registers: 255, Local: 16, Architecture: "sm_90a", TableRegisters: 255}
	for _, c := range []struct {
		figures []kernelFigure
		verdict doctorVerdict
		want    string
	}{
		{[]kernelFigure{same, rounded}, passed, "2 kernels without local memory; registers and shared memory are those that ptxas gave for sm_90a"},
		{[]kernelFigure{same, other}, passed, "of 1 are those that ptxas gave for sm_90a, not of other (48 registers for 40, 512 bytes of shared memory for 256)"},
		{[]kernelFigure{same, spilled}, failed, "1 of 2 kernels spill into local memory: spilled has 16 bytes a thread"},
		{[]kernelFigure{{Kernel: "untold"}}, passed, "of registers the driver says nothing"},
		{[]kernelFigure{{Kernel: "elsewhere", Registers: 32}}, passed, "no figures of ptxas for this architecture"},
		{nil, failed, "taken no kernel"},
	} {
		if f := judgedKernels(c.figures); f.verdict != c.verdict || !strings.Contains(f.detail, c.want) {
			t.Errorf("%+v: %+v", c.figures, f)
		}
	}
}
