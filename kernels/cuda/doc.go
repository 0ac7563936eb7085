// Package cuda is the contract of package kernels on NVIDIA GPUs of compute capability
// 8.0 (Ampere) and newer, over the CUDA driver. It is built with the tag nvidia.
//
// A kernel file (*.cu) holds one family of operations, forward and backward; device.cuh
// holds all inline PTX. What runs is the PTX beside it, which is committed and embedded:
// the driver translates it for its card, and kernels/emulator executes the same text in
// tests. Matrix products of aligned operands are cublasLt's. Go knows shapes, memory and
// how an operation is cut into blocks.
//
// All work of a backend is on one stream, in the order in which it was issued. Nothing
// adds floats atomically and no sum is cut by the number of rows, so results repeat to
// the bit and that of a row does not depend on what else is in the batch. For matrix
// products that is cublasLt's doing: it gets the same algorithm, without split sums,
// whatever the number of rows; see cublaslt.go.
package cuda
