//go:build nvidia

package cuda

import (
	"fmt"

	"gorgonia.org/cu"
)

// An Info is what a user would be asked about a GPU.
type Info struct {
	Devices           int // that the driver sees
	Driver            int // the CUDA version that the driver is for, 1000*major + 10*minor
	Name              string
	Capability        string
	Memory            int64 // bytes
	Processors        int   // streaming multiprocessors
	ECC               bool
	Modules, Kernels  int // that the driver took
	ProcessorClockMHz int // the highest
}

// Describe opens the device of that number, loads all kernels and says what it is.
func Describe(ordinal int) (info Info, err error) {
	n, err := Devices()
	if err != nil {
		return info, err
	}
	d, err := openDevice(ordinal, images())
	if err != nil {
		return info, err
	}
	info = Info{Devices: n, Driver: cu.Version(), Name: d.name, Modules: len(d.modules), Kernels: len(d.kernels)}
	err = info.ask(d)
	if e := d.close(); err == nil {
		err = e
	}
	if err != nil {
		return info, fmt.Errorf("cuda: describe device %d: %w", ordinal, err)
	}
	return info, nil
}

func (i *Info) ask(d *device) (err error) {
	attribute := func(a cu.DeviceAttribute) (n int) {
		if err == nil {
			n, err = d.cu.Attribute(a)
		}
		return n
	}
	major, minor := attribute(cu.ComputeCapabilityMajor), attribute(cu.ComputeCapabilityMinor)
	i.Capability = fmt.Sprintf("%d.%d", major, minor)
	i.Processors, i.ECC = attribute(cu.MultiprocessorCount), attribute(cu.EccEnabled) != 0
	i.ProcessorClockMHz = attribute(cu.ClockRate) / 1000
	if err == nil {
		i.Memory, err = d.cu.TotalMem()
	}
	return err
}
