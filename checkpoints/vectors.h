// Conversions of element types by vectors; see vectors.go. They take n elements, of any
// alignment and in the byte order of the machine, and keep no state.
#ifndef VECTORS_H
#define VECTORS_H

void bf16_to_float(void *restrict dst, const void *restrict src, long n);
void float_to_bf16(void *restrict dst, const void *restrict src, long n);

#endif
