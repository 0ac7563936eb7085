// All kernels of one set. The including file defines
//
//   TABLE  the set's name
//   BF16   1 if elements are bfloat16, 0 if float32
//   LANES  floats in a vector
//   ROWS   rows of the register tile
//   KEYS   keys per block of attention, a multiple of ROWS and 2*LANES

#include "kernels.h"
#include "vectors.h"
#include "tile.h"
#include "gemm.h"
#include "attention_shape.h"
#include "attention.h"
#include "attention_back.h"
#include "rows.h"
#include "elementwise.h"

const kernel_set TABLE = {
	.tile_rows = ROWS, .tile_cols = COLS, .gemm_scratch = GEMM_SCRATCH, .gemm_cols = NC,
	.attention_scratch = attention_scratch,
#define ENTRY(name, ...) .name = name,
	KERNELS(ENTRY)
};
