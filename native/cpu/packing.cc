// Rows of a checkpoint -> a panel, bit for bit: only the order changes. Two ways with one result. `pack_plainly` takes
// the rows one after another and any number of them, and is the definition; the others take 16 rows together, block by
// block, four rows to a vector, so that lines are written whole and packing keeps up with memory.
// Nothing here depends on the instruction set: 128-bit vectors, which every machine has, are enough for that.
#include <cstring>

#include "cpu.h"
#include "packing.h"

namespace cpu {
namespace {

typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef float f32x4 __attribute__((vector_size(16)));
using Sources = const uint8_t *const *;  // where each row begins

template <class To, class From> To as(From from) {
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

uint32_t word_at(const uint8_t *from) {
  uint32_t word;
  memcpy(&word, from, 4);
  return word;
}

void put(uint8_t *to, u32x4 words) { memcpy(to, &words, 16); }
u32x4 all(uint32_t word) { return u32x4{word, word, word, word}; }

struct Four {
  u32x4 word[4];
};

// The 16 bytes at `at` of four rows, turned: word j of the rows side by side.
inline Four four(Sources rows, size_t at) {
  u32x4 r[4];
  for (int i = 0; i < 4; i++) memcpy(&r[i], rows[i] + at, 16);
  const u32x4 a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
  const u32x4 c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  return {{__builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
           __builtin_shufflevector(c, d, 0, 1, 4, 5), __builtin_shufflevector(c, d, 2, 3, 6, 7)}};
}

// Four rows' words of four bytes each, turned: word j holds byte j of each row.
inline u32x4 turned_bytes(u32x4 words) {
  const u8x16 v = as<u8x16>(words);
  const u8x16 half = __builtin_shufflevector(v, v, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
  return as<u32x4>(__builtin_shufflevector(half, half, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
}

constexpr uint32_t nibbles = 0x0f0f0f0f, pairs = 0x03030303, ones = 0x01010101;

// Where four rows stand in a block of a panel, and the block's parts.
template <Layout layout> struct Place {
  static constexpr Form f = form(layout);
  uint8_t *block;
  int lane;
  void code(int j, u32x4 words) const { put(block + j * 64 + lane * 4, words); }
  void top(int j, u32x4 words) const { put(block + code_bytes(f) + j * 64 + lane * 4, words); }
  // the scales of sub-block k (minimums follow), a byte a row
  void scale(int k, uint32_t bytes) const { memcpy(block + code_bytes(f) + top_bytes(f) + k * lanes + lane, &bytes, 4); }
};

// Two groups of four codes that the file keeps in the low, or the high, halves of their bytes, as one word of a panel.
inline u32x4 low_halves(u32x4 even, u32x4 odd) { return (even & nibbles) | (odd & nibbles) << 4; }
inline u32x4 high_halves(u32x4 even, u32x4 odd) { return (even >> 4 & nibbles) | (odd & ~nibbles); }

// 32 codes in 16 bytes: element i in the low half of byte i, element i + 16 in the high half.
template <class P> inline void sixteen_apart(const P &to, const Four &w) {
  for (int j = 0; j < 2; j++) {
    to.code(j, low_halves(w.word[2 * j], w.word[2 * j + 1]));
    to.code(j + 2, high_halves(w.word[2 * j], w.word[2 * j + 1]));
  }
}

// `count` words from `at` on, turned.
template <int count> inline void words(Sources rows, size_t at, u32x4 *out) {
  for (int i = 0; i < count / 4; i++) {
    const Four w = four(rows, at + 16 * i);
    for (int j = 0; j < 4; j++) out[4 * i + j] = w.word[j];
  }
}

inline u32x4 swapped(u32x4 x, int distance, uint32_t mask) {
  const u32x4 t = ((x >> distance) ^ x) & mask;
  return x ^ t ^ t << distance;
}

// Bit 4 g + k of a row's word -> bit g of byte k.
inline u32x4 top_of_bits(u32x4 x) {
  return swapped(swapped(swapped(swapped(x, 14, 0xcccc), 7, 0x00aa00aa), 2, 0x0c0c0c0c), 1, 0x22222222);
}

// The halves at `at` of 16 rows.
inline void halves(Sources rows, size_t at, uint8_t *to) {
  for (int i = 0; i < lanes; i++) memcpy(to + 2 * i, rows[i] + at, 2);
}

// Formats of 32: codes, perhaps fifth bits, a scale, perhaps a minimum.
template <Layout layout> void pack_small(Sources rows, int64_t D, uint8_t *panel) {
  constexpr Form f = form(layout);
  constexpr size_t head = f.min ? 4 : 2, codes = head + (f.top ? 4 : 0);
  size_t at = 0;
  for (int64_t b = 0; b < D / block; b++, at += f.source_bytes, panel += block_bytes(f)) {
    for (int lane = 0; lane < lanes; lane += 4) {
      const Sources own = rows + lane;
      const Place<layout> to{panel, lane};
      const Four w = four(own, at + codes);
      if (f.bytes) {
        const Four more = four(own, at + codes + 16);
        for (int j = 0; j < 4; j++) to.code(j, w.word[j] ^ 0x80808080), to.code(j + 4, more.word[j] ^ 0x80808080);
      } else sixteen_apart(to, w);
      if (f.top) {
        const size_t bits = at + head;
        to.top(0, top_of_bits(u32x4{word_at(own[0] + bits), word_at(own[1] + bits), word_at(own[2] + bits), word_at(own[3] + bits)}));
      }
    }
    uint8_t *scales = panel + code_bytes(f) + top_bytes(f);
    halves(rows, at, scales);
    if (f.min) halves(rows, at + 2, scales + lanes * 2);
  }
}

// The scales (and minimums) of 256 codes of four rows, byte j of word i being sub-block 4 i + j's.
struct Scales {
  u32x4 scale[4], min[4];
};

template <Layout layout> inline Scales scales_of(Sources rows, size_t at) {
  Scales s{};
  if (layout == Layout::q4_k || layout == Layout::q5_k) {  // 6 bits each, see six_bit_scales in formats.cc
    const Four w = four(rows, at);
    s.scale[0] = w.word[1] & 0x3f3f3f3f, s.min[0] = w.word[2] & 0x3f3f3f3f;
    s.scale[1] = (w.word[3] & nibbles) | (w.word[1] >> 6 & pairs) << 4;
    s.min[1] = (w.word[3] >> 4 & nibbles) | (w.word[2] >> 6 & pairs) << 4;
  } else if (layout == Layout::q6_k) {
    words<4>(rows, at + 192, s.scale);
  } else if (layout == Layout::q2_k) {
    const Four w = four(rows, at);
    for (int i = 0; i < 4; i++) s.scale[i] = w.word[i] & nibbles, s.min[i] = w.word[i] >> 4 & nibbles;
  } else if (layout == Layout::q3_k) {
    const Four w = four(rows, at + 92);  // the scales begin at 96; the block ends at 110
    for (int i = 0; i < 4; i++) {
      const u32x4 low = (i < 2 ? w.word[1 + i] : w.word[i - 1] >> 4) & nibbles, high = (w.word[3] >> (2 * i) & pairs) << 4;
      s.scale[i] = as<u32x4>(as<u8x16>(low | high) - 32);
    }
  }
  return s;
}

template <class P> inline void put_scales(const Scales &s, int lane, uint8_t *const *blocks, P) {
  constexpr int subs = block / P::f.sub;
  for (int i = 0; i < 2 * subs; i++) {
    const u32x4 scale = turned_bytes(s.scale[i]), min = turned_bytes(s.min[i]);
    for (int j = 0; j < 4; j++) {
      const P to{blocks[(4 * i + j) / subs], lane};
      to.scale(j % subs, scale[j]);
      if (P::f.min) to.scale(subs + j % subs, min[j]);
    }
  }
}

// q4_k and q5_k: 64 codes in 32 bytes, low halves first; fifth bits in 32 bytes, bit b for block b.
template <Layout layout> inline void four_bits(Sources rows, size_t at, int lane, uint8_t *const *blocks) {
  constexpr size_t codes = layout == Layout::q4_k ? 16 : 48;
  u32x4 high[8];
  if (layout == Layout::q5_k) words<8>(rows, at + 16, high);
  for (int c = 0; c < 4; c++) {
    u32x4 both[8];
    words<8>(rows, at + codes + 32 * c, both);
    for (int j = 0; j < 4; j++) {
      Place<layout>{blocks[2 * c], lane}.code(j, low_halves(both[2 * j], both[2 * j + 1]));
      Place<layout>{blocks[2 * c + 1], lane}.code(j, high_halves(both[2 * j], both[2 * j + 1]));
    }
  }
  if (layout != Layout::q5_k) return;
  for (int b = 0; b < 8; b++) {
    u32x4 top{};
    for (int g = 0; g < 8; g++) top |= (high[g] >> b & ones) << g;
    Place<layout>{blocks[b], lane}.top(0, top);
  }
}

// q6_k: halves of 128 codes, low four bits in 64 bytes and high two in 32.
inline void six_bits(Sources rows, size_t at, int lane, uint8_t *const *blocks) {
  for (int half = 0; half < 2; half++) {
    u32x4 low[16], high[8];
    words<16>(rows, at + 64 * half, low);
    words<8>(rows, at + 128 + 32 * half, high);
    for (int b = 0; b < 4; b++) {
      const Place<Layout::q6_k> to{blocks[4 * half + b], lane};
      const u32x4 *own = low + 8 * (b & 1);
      for (int j = 0; j < 4; j++) {
        to.code(j, b < 2 ? low_halves(own[2 * j], own[2 * j + 1]) : high_halves(own[2 * j], own[2 * j + 1]));
      }
      for (int t = 0; t < 2; t++) {
        u32x4 top{};
        for (int m = 0; m < 4; m++) top |= (high[4 * t + m] >> (2 * b) & pairs) << (2 * m);
        to.top(t, top);
      }
    }
  }
}

// q2_k and q3_k: halves of 128 codes, two bits each in 32 bytes; third bits in 32 bytes, bit b for block b.
template <Layout layout> inline void two_bits(Sources rows, size_t at, int lane, uint8_t *const *blocks) {
  constexpr bool third = layout == Layout::q3_k;
  u32x4 high[8]{};
  if (third) words<8>(rows, at, high);
  for (int half = 0; half < 2; half++) {
    u32x4 low[8];
    words<8>(rows, at + (third ? 32 : 16) + 32 * half, low);
    for (int b = 0; b < 4; b++) {
      const Place<layout> to{blocks[4 * half + b], lane};
      const auto code = [&](int g) {
        const u32x4 two = low[g] >> (2 * b) & pairs;
        return third ? two | (high[g] >> (4 * half + b) & ones) << 2 : two;
      };
      for (int j = 0; j < 4; j++) to.code(j, code(2 * j) | code(2 * j + 1) << 4);
    }
  }
}

// iq4_xs: blocks like q4_0's, scales of 6 bits in two places.
inline void levels(Sources rows, size_t at, int lane, uint8_t *const *blocks) {
  for (int b = 0; b < 8; b++) {
    const Place<Layout::iq4_xs> to{blocks[b], lane};
    sixteen_apart(to, four(rows, at + 8 + 16 * b));
    uint32_t scales = 0;
    for (int i = 0; i < 4; i++) {
      const uint8_t *s = rows[i] + at;
      const int low = s[4 + b / 2] >> (b & 1) * 4 & 15, high = s[2 + b / 4] >> (b & 3) * 2 & 3;
      scales |= (uint32_t)(uint8_t)((low | high << 4) - 32) << 8 * i;
    }
    to.scale(0, scales);
  }
}

constexpr size_t scale_at(Layout layout) {
  return layout == Layout::q2_k ? 80 : layout == Layout::q3_k ? 108 : layout == Layout::q6_k ? 208 : 0;
}

// Formats of 256.
template <Layout layout> void pack_super(Sources rows, int64_t D, uint8_t *panel) {
  constexpr Form f = form(layout);
  size_t at = 0;
  for (int64_t b = 0; b < D / block; b += 8, at += f.source_bytes) {
    uint8_t *blocks[8], *head = panel + block_at(f, b) - head_bytes(f);
    for (int i = 0; i < 8; i++) blocks[i] = panel + block_at(f, b + i);
    halves(rows, at + scale_at(layout), head);
    if (f.min) halves(rows, at + scale_at(layout) + 2, head + lanes * 2);
    for (int lane = 0; lane < lanes; lane += 4) {
      const Sources own = rows + lane;
      if constexpr (layout == Layout::q6_k) six_bits(own, at, lane, blocks);
      else if constexpr (layout == Layout::iq4_xs) levels(own, at, lane, blocks);
      else if constexpr (layout == Layout::q2_k || layout == Layout::q3_k) two_bits<layout>(own, at, lane, blocks);
      else four_bits<layout>(own, at, lane, blocks);
      if constexpr (layout != Layout::iq4_xs) put_scales(scales_of<layout>(own, at), lane, blocks, Place<layout>{});
    }
  }
}

// f32 as it is, and bf16 as pairs: words change places, `count` of them a row.
void pack_words(Sources rows, int64_t count, uint8_t *panel) {
  for (int64_t d = 0; d < count; d += 4, panel += 4 * 64) {
    for (int lane = 0; lane < lanes; lane += 4) {
      const Four w = four(rows + lane, d * 4);
      for (int j = 0; j < 4; j++) put(panel + j * 64 + lane * 4, w.word[j]);
    }
  }
}

// A small float in the low bits of each word -> f32, exactly: exponent and fraction move to where f32 has them, and the
// exponent's bias grows. Without one (subnormal), the fraction is what exceeds the smallest power that has one.
template <int exponent_bits, int fraction_bits> inline u32x4 widened(u32x4 bits) {
  constexpr int width = exponent_bits + fraction_bits, bias = (1 << (exponent_bits - 1)) - 1;
  constexpr uint32_t rebias = (uint32_t)(127 - bias) << 23, least = rebias + (1u << 23);
  const u32x4 body = (bits & ((1u << width) - 1)) << (23 - fraction_bits);
  const u32x4 small = (u32x4)(body < (1u << 23)), fraction = as<u32x4>(as<f32x4>(body + least) - as<f32x4>(all(least)));
  return (small & fraction) | (~small & (body + rebias)) | (bits >> width & 1) << 31;
}

inline u32x4 f16_widened(u32x4 h) {
  const u32x4 special = (u32x4)((h & 0x7c00) == 0x7c00);  // infinities and NaN keep their fraction
  return (special & (0x7f800000 | (h & 0x3ff) << 13 | (h & 0x8000) << 16)) | (~special & widened<5, 10>(h));
}

inline u32x4 f8_widened(u32x4 b) {
  const u32x4 nan = (u32x4)((b & 0x7f) == 0x7f);
  return (nan & (0x7fc00000 | (b & 0x80) << 24)) | (~nan & widened<4, 3>(b));
}

void pack_f16(Sources rows, int64_t D, uint8_t *panel) {
  for (int64_t d = 0; d < D; d += 8, panel += 8 * 64) {
    for (int lane = 0; lane < lanes; lane += 4) {
      const Four w = four(rows + lane, d * 2);
      for (int j = 0; j < 8; j++) put(panel + j * 64 + lane * 4, f16_widened(w.word[j / 2] >> (j % 2 * 16) & 0xffff));
    }
  }
}

void pack_f8(Sources rows, int64_t D, const float *scales, uint8_t *panel) {
  for (int64_t d = 0; d < D; d += 16, panel += 16 * 64) {
    const float scale = scales ? scales[d / 128] : 1;
    for (int lane = 0; lane < lanes; lane += 4) {
      const Four w = four(rows + lane, d);
      for (int j = 0; j < 16; j++) {
        const f32x4 value = as<f32x4>(f8_widened(w.word[j / 4] >> (j % 4 * 8) & 0xff));
        put(panel + j * 64 + lane * 4, as<u32x4>(value * scale));
      }
    }
  }
}

}  // namespace

bool pack_together(Layout layout, int dtype, Sources rows, int64_t D, const float *scales, uint8_t *panel) {
  switch (layout) {
    case Layout::f32:
      if (dtype == LATENT_F16 && D % 8 == 0) return pack_f16(rows, D, panel), true;
      if (dtype == LATENT_F8_E4M3 && D % 16 == 0) return pack_f8(rows, D, scales, panel), true;
      if (dtype == LATENT_F32 && D % 4 == 0) return pack_words(rows, D, panel), true;
      return false;
    case Layout::bf16: return D % 8 == 0 && (pack_words(rows, D / 2, panel), true);
    case Layout::q8_0: return pack_small<Layout::q8_0>(rows, D, panel), true;
    case Layout::q4_0: return pack_small<Layout::q4_0>(rows, D, panel), true;
    case Layout::q4_1: return pack_small<Layout::q4_1>(rows, D, panel), true;
    case Layout::q5_0: return pack_small<Layout::q5_0>(rows, D, panel), true;
    case Layout::q5_1: return pack_small<Layout::q5_1>(rows, D, panel), true;
    case Layout::iq4_nl: return pack_small<Layout::iq4_nl>(rows, D, panel), true;
    case Layout::q2_k: return pack_super<Layout::q2_k>(rows, D, panel), true;
    case Layout::q3_k: return pack_super<Layout::q3_k>(rows, D, panel), true;
    case Layout::q4_k: return pack_super<Layout::q4_k>(rows, D, panel), true;
    case Layout::q5_k: return pack_super<Layout::q5_k>(rows, D, panel), true;
    case Layout::q6_k: return pack_super<Layout::q6_k>(rows, D, panel), true;
    case Layout::iq4_xs: return pack_super<Layout::iq4_xs>(rows, D, panel), true;
  }
  return false;
}

}  // namespace cpu
