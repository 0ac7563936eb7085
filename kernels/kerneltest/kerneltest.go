// Package kerneltest is the conformance suite that every kernels.Backend passes.
//
// Its checks are of five kinds, which the first part of a check's name tells:
//
//	values/     one operation on the backend and on kernels/reference in float64,
//	            with the same inputs and outputs that start out random, agree
//	            within Tol; nothing but the outputs changes, and nothing around them
//	nonfinite/  a NaN or an infinity in one operand reaches the same results
//	exact/      the same bits whatever else is in the batch, with a shared or a
//	            repeated prefix, when run again, with weights kept, and fused
//	shapes/     operands that do not fit panic
//	memory/     tensors start zeroed, are accounted by tag and cross unchanged
//
// A backend's own test is one line: kerneltest.Run(t, backend, dtype). Names and Errors are
// for programs that check a machine, as are the large checks of Sizes: operations at the
// size of a real model, compared with the reference by samples.
package kerneltest

import (
	"fmt"
	"slices"
	"testing"

	"rmtrain/kernels"
)

// A check returns what is wrong with backend b, whose compute type is dt.
type check struct {
	name string
	run  func(b kernels.Backend, dt kernels.DType) []error
}

var checks = slices.Concat(valueChecks(), nonfiniteChecks(), exactChecks(), shapeChecks(), memoryChecks(), keptChecks(), residualChecks())

// Run checks b, whose compute type is dt.
func Run(t *testing.T, b kernels.Backend, dt kernels.DType) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			for _, err := range c.run(b, dt) {
				t.Error(err)
			}
		})
	}
}

// Names lists the checks.
func Names() []string {
	names := make([]string, len(checks))
	for i, c := range checks {
		names[i] = c.name
	}
	return names
}

// Errors returns what the named check finds wrong with b, nothing if it passes.
func Errors(b kernels.Backend, dt kernels.DType, name string) []error {
	for _, c := range checks {
		if c.name == name {
			return c.run(b, dt)
		}
	}
	return []error{fmt.Errorf("kerneltest: there is no check %q", name)}
}
