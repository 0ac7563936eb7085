package kerneltest

import (
	"fmt"
	"math"
)

// An agreement says which results that are not finite are as good as the
// reference's.
type agreement func(got, want float64) bool

// finite accepts none.
func finite(got, want float64) bool { return false }

// sameNaN accepts NaN for NaN, and the same infinity.
func sameNaN(got, want float64) bool { return got == want || math.IsNaN(got) && math.IsNaN(want) }

// notFinite accepts either infinity or NaN for NaN, since Inf-Inf and Inf*0 depend
// on the order of operations.
func notFinite(got, want float64) bool { return got == want || isNotFinite(got) && math.IsNaN(want) }

// anyNotFinite accepts any for any.
func anyNotFinite(got, want float64) bool { return isNotFinite(got) && isNotFinite(want) }

func isNotFinite(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) }

// differ returns an error if got is farther from want than tol; see Tol.
func differ(got, want []float64, tol float64, agree agreement) error {
	var sumError, sumWant float64
	for i := range want {
		if isNotFinite(got[i]) || isNotFinite(want[i]) {
			if !agree(got[i], want[i]) {
				return fmt.Errorf("element %d of %d is %g, want %g", i, len(want), got[i], want[i])
			}
			continue
		}
		sumError += (got[i] - want[i]) * (got[i] - want[i])
		sumWant += want[i] * want[i]
	}
	if sumError == 0 {
		return nil
	}
	if e := math.Sqrt(sumError / sumWant); !(e <= tol) {
		return fmt.Errorf("relative error %.3g > %.3g", e, tol)
	}
	const outlier = 16
	rms := math.Sqrt(sumWant / float64(len(want)))
	for i := range want {
		if e := math.Abs(got[i]-want[i]) / (rms + math.Abs(want[i])) / outlier; e > tol {
			return fmt.Errorf("element %d of %d is %g, want %g", i, len(want), got[i], want[i])
		}
	}
	return nil
}

// biased returns an error if BF16 results lean towards or away from zero:
// rounding to nearest does not, cutting bits off does, by 1.4e-3 on average. With
// a thousand results rounding's mean error is about 5e-5.
//
// In attention the rounding of one weight moves many results together, so that
// their mean error tells nothing.
func biased(class Class, got, want []float64) error {
	const enough, allowed = 1000, 3e-4
	if class == Attending || class == AttendingBack || class == LargeScores || len(want) < enough {
		return nil
	}
	var lean, size float64
	for i := range want {
		lean += (got[i] - want[i]) * math.Copysign(1, want[i])
		size += math.Abs(want[i])
	}
	if e := math.Abs(lean / size); e > allowed {
		return fmt.Errorf("mean error %.2g of the mean size > %.2g: not rounded to nearest", lean/size, allowed)
	}
	return nil
}
