// The integer formats, as kernels see them: value = scale * (code - zero) + min, in blocks of 32 codes.
//
// A panel of 16 rows holds, block after block:
//   codes   [8][16][4] bytes, or halves [4][16][4] (two groups of four: low bits the even group, high bits the odd one)
//   top     the bits above the low four: 1 a code [16][4] (bit g is group g's), or 2 a code [2][16][4]
//   scales  f16 [16] (and mins f16 [16]), or in formats of 256: i8 [32/sub][16] (and mins u8 [32/sub][16]), to be
//           multiplied by f16 [16] (and for mins minus f16 [16]) that stand before every eighth block
#pragma once
#include <cstdint>

namespace cpu {

enum class Layout { f32, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_xs };

struct Form {
  bool bytes;  // a code is a byte
  int top;     // bits of a code above the low four
  bool levels; // codes are places in iq4's table of levels
  int sub;     // codes that share a scale: 32 or 16
  bool super;  // scales are themselves scaled, 256 at a time
  bool min;
  int zero;
  int source_bytes, source_block;  // of the checkpoint's own blocks
};

constexpr Form form(Layout layout) {
  switch (layout) {
    case Layout::q8_0: return {true, 0, false, 32, false, false, 128, 34, 32};
    case Layout::q4_0: return {false, 0, false, 32, false, false, 8, 18, 32};
    case Layout::q4_1: return {false, 0, false, 32, false, true, 0, 20, 32};
    case Layout::q5_0: return {false, 1, false, 32, false, false, 16, 22, 32};
    case Layout::q5_1: return {false, 1, false, 32, false, true, 0, 24, 32};
    case Layout::iq4_nl: return {false, 0, true, 32, false, false, 128, 18, 32};
    case Layout::q2_k: return {false, 0, false, 16, true, true, 0, 84, 256};
    case Layout::q3_k: return {false, 0, false, 16, true, false, 4, 110, 256};
    case Layout::q4_k: return {false, 0, false, 32, true, true, 0, 144, 256};
    case Layout::q5_k: return {false, 1, false, 32, true, true, 0, 176, 256};
    case Layout::q6_k: return {false, 2, false, 16, true, false, 32, 210, 256};
    case Layout::iq4_xs: return {false, 0, true, 32, true, false, 128, 136, 256};
    default: return {};
  }
}

constexpr int lanes = 16;  // rows of a panel
constexpr int block = 32;  // codes of a block

constexpr int code_bytes(Form f) { return lanes * (f.bytes ? 32 : 16); }
constexpr int top_bytes(Form f) { return f.top * 64; }
constexpr int scale_bytes(Form f) {
  return f.super ? lanes * (block / f.sub) * (f.min ? 2 : 1) : lanes * 2 * (f.min ? 2 : 1);
}
constexpr int head_bytes(Form f) { return f.super ? lanes * 2 * (f.min ? 2 : 1) : 0; }  // before every eighth block
constexpr int block_bytes(Form f) { return code_bytes(f) + top_bytes(f) + scale_bytes(f); }
constexpr int64_t row_panel_bytes(Form f, int64_t D) {
  return D / block * block_bytes(f) + (f.super ? D / 256 * head_bytes(f) : 0);
}
// Where block b of a panel begins (after its head, if it has one).
constexpr int64_t block_at(Form f, int64_t b) { return b * block_bytes(f) + (f.super ? (b / 8 + 1) * head_bytes(f) : 0); }

// Levels of iq4, raised by 128 (ggml-common.h, kvalues_iq4nl).
constexpr uint8_t iq4_levels[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

// One block of 32 (or 256) of a checkpoint's row, taken apart.
struct Exploded {
  uint8_t codes[256];   // 32 of them in small formats; places for formats of levels
  uint16_t scale, min;  // f16 bits
  int8_t scales[16];    // of sub-blocks, in formats of 256
  uint8_t mins[16];
};
void explode(Layout layout, const uint8_t *source, Exploded &out);

}  // namespace cpu
