//go:build !asan

package kerneltest

// behind is the number of random elements after an operand.
const behind = before
