// Rows of a checkpoint -> a panel of 16 of them. Included by weights.cc, which knows when, and packing.cc, which knows how.
#pragma once
#include "cpu.h"

namespace cpu {

// Packs 16 rows together, each where `rows` says, with the block scales of fp8 that they share (or null). Writes every
// byte of the panel. False, and nothing done, for rows of a length that only the plain way takes.
bool pack_together(Layout layout, int dtype, const uint8_t *const *rows, int64_t D, const float *scales, uint8_t *panel);

}  // namespace cpu
