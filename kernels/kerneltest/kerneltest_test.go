package kerneltest

import (
	"reflect"
	"strings"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/reference"
)

func TestEveryOperationHasEveryKindOfCheck(t *testing.T) {
	all := "\n" + strings.Join(Names(), "\n")
	ops := reflect.TypeFor[kernels.Ops]()
	for i := range ops.NumMethod() {
		op := ops.Method(i).Name
		kinds := []string{"values", "exact/repeated", "nonfinite", "shapes"}
		if op == "Zero" { // takes any shape and reads nothing
			kinds = kinds[:2]
		}
		for _, kind := range kinds {
			if prefix := "\n" + kind + "/" + op + "/"; !strings.Contains(all, prefix) {
				t.Errorf("no check of kind %s for %s", kind, op)
			}
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range Names() {
		if seen[name] {
			t.Errorf("two checks are named %q", name)
		}
		seen[name] = true
	}
}

// A missing entry would be read as a tolerance of zero.
func TestEveryOutputHasATolerance(t *testing.T) {
	for _, dt := range []kernels.DType{kernels.F64, kernels.F32, kernels.BF16} {
		for _, c := range cases {
			for _, i := range c.out {
				if _, ok := Tol[c.in[i].kind.dtype(dt)][c.class]; !ok {
					t.Errorf("%s: no tolerance for operand %d under %v", c.name, i, dt)
				}
			}
		}
	}
}

// Every random output must be able to fail: a case whose expected result is what
// the output started with would pass a backend that does nothing.
func TestEveryCaseChangesItsOutputs(t *testing.T) {
	for _, c := range cases {
		p := c.problem(kernels.F64)
		for _, i := range c.out {
			if reflect.DeepEqual(p.values[i], p.want[i]) {
				t.Errorf("%s leaves operand %d as it was", c.name, i)
			}
		}
	}
}

func TestErrorsOfAnUnknownCheck(t *testing.T) {
	if errs := Errors(reference.New(kernels.F32), kernels.F32, "no such check"); len(errs) != 1 {
		t.Errorf("got %v, want one error", errs)
	}
}
