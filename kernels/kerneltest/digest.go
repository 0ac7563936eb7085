package kerneltest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"

	"rmtrain/kernels"
)

// A Digest is the beginnings of two SHA-256 sums over all operands of a case: before the
// operation and after it. Where an operation only copies and adds, every machine that obeys
// IEEE 754 and adds in the same order has the same.
type Digest struct{ Before, After string }

// DigestOf runs the case that values/NAME checks on b.
func DigestOf(b kernels.Backend, dt kernels.DType, name string) (Digest, error) {
	for _, c := range cases {
		if c.name != name {
			continue
		}
		values := c.problem(dt).values
		after, errs := c.evaluate(b, dt, values)
		if len(errs) > 0 {
			return Digest{}, errs[0]
		}
		before, result := sha256.New(), sha256.New()
		for i, o := range c.in {
			before.Write(encode(o.kind.dtype(dt), values[i]))
			result.Write(after[i])
		}
		return Digest{shortSum(before), shortSum(result)}, nil
	}
	return Digest{}, fmt.Errorf("kerneltest: there is no case %q", name)
}

func shortSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)[:8]) }
