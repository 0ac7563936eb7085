//go:build asan

package kerneltest

// behind is 0, so that an operand ends with its buffer, where a backend on the CPU has
// AddressSanitizer watch.
const behind = 0
