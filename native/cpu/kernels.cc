// The inner loops, compiled once for each instruction set (LATENT_ISA, with its compiler flags), over the vectors
// of simd.h.
#include <cmath>
#include <cstring>

#include "cpu.h"
#include "simd.h"

namespace cpu {
namespace {

inline u8x64 levels(u8x64 places) {
#if defined(__AVX512BW__)
  const __m512i table = _mm512_maskz_broadcast_i32x4(0xffff, _mm_loadu_si128((const __m128i *)iq4_levels));
  return (u8x64)_mm512_shuffle_epi8(table, (__m512i)places);
#else
  u8x64 out;
  for (int i = 0; i < 64; i++) out[i] = iq4_levels[places[i]];
  return out;
#endif
}

typedef int8_t i8x16 __attribute__((vector_size(16), aligned(1)));
typedef uint8_t u8x16 __attribute__((vector_size(16), aligned(1)));
inline f32x16 signed_bytes(const uint8_t *from) { return __builtin_convertvector(load<i8x16>(from), f32x16); }
inline f32x16 plain_bytes(const uint8_t *from) { return __builtin_convertvector(load<u8x16>(from), f32x16); }

// Group g (four codes of each of 16 rows) of a block; g is a constant where this is used, so it folds to a few shifts.
template <Layout layout>
inline u8x64 group_of(const uint8_t *at, int g) {
  constexpr Form f = form(layout);
  if (f.bytes) return load<u8x64>(at + g * 64);
  const u8x64 both = load<u8x64>(at + g / 2 * 64);
  u8x64 codes = g % 2 == 0 ? both & 15 : (u8x64)((u32x16)both >> 4) & 15;
  if (f.top == 1) {
    const u32x16 top = (u32x16)load<u8x64>(at + code_bytes(f));
    codes |= (u8x64)((g < 4 ? top << (4 - g) : top >> (g - 4))) & 16;
  }
  if (f.top == 2) {
    const u32x16 top = (u32x16)load<u8x64>(at + code_bytes(f) + g / 4 * 64);
    codes |= (u8x64)(g % 4 < 2 ? top << (4 - g % 4 * 2) : top >> (g % 4 * 2 - 4)) & 48;
  }
  return f.levels ? levels(codes) : codes;
}

// 16 rows of weights against NT rows of x. Codes are unsigned, the value is scale * (code - zero) + min, so the true sum
// is the unsigned one less zero * (sum of x), which is where the accumulators start, plus min * (sum of x).
template <Layout layout, int NT>
inline void quantized_tile(const uint8_t *panel, const Quantized &q, int64_t D, const int64_t *rows, float *const *y, int width) {
  constexpr Form f = form(layout);
  constexpr int subs = block / f.sub;
  const int64_t blocks = D / block;
  const int8_t *x[NT];
  for (int t = 0; t < NT; t++) x[t] = q.values + rows[t] * D;
  f32x16 out[NT] = {}, d = {}, least = {};
  for (int64_t b = 0; b < blocks; b++) {
    if (f.super && b % 8 == 0) {
      d = halves(panel);
      if (f.min) least = halves(panel + 32);
      panel += head_bytes(f);
    }
    const uint8_t *scales = panel + code_bytes(f) + top_bytes(f);
    for (int s = 0; s < subs; s++) {
      const f32x16 scale = f.super ? d * signed_bytes(scales + s * lanes) : halves(scales);
      f32x16 min = {};
      if (f.min) min = f.super ? -least * plain_bytes(scales + (subs + s) * lanes) : halves(scales + lanes * 2);
      i32x16 acc[NT];
      int32_t total[NT];
      for (int t = 0; t < NT; t++) {
        const int32_t *sums = q.sums + (rows[t] * blocks + b) * 2;
        total[t] = subs == 2 ? sums[s] : sums[0] + sums[1];
        acc[t] = -f.zero * total[t] - i32x16{};
      }
#pragma GCC unroll 8
      for (int g = s * 8 / subs; g < (s + 1) * 8 / subs; g++) {
        const u8x64 w = group_of<layout>(panel, g);
        for (int t = 0; t < NT; t++) acc[t] = dot4(acc[t], w, x[t] + b * block + g * 4);
      }
      for (int t = 0; t < NT; t++) {
        const float xs = q.scales[rows[t] * blocks + b];
        out[t] += to_float(acc[t]) * (scale * xs);
        if (f.min) out[t] += min * (xs * total[t]);
      }
    }
    panel += block_bytes(f);
  }
  for (int t = 0; t < NT; t++) memcpy(y[t], &out[t], width * 4);
}

// One pair (bf16) or one element (f32) of 16 rows at a time; products and sums in f32.
template <int NT, bool half>
inline void float_tile(const uint8_t *panel, const float *x, int64_t D, const int64_t *rows, float *const *y, int width) {
  const float *from[NT];
  for (int t = 0; t < NT; t++) from[t] = x + rows[t] * D;
  f32x16 out[NT] = {};
  if (half) {
    for (int64_t d = 0; d + 1 < D; d += 2, panel += 64) {
      const u32x16 pair = load<u32x16>(panel);
      const f32x16 even = as_float(pair << 16), odd = as_float(pair & 0xffff0000u);
      for (int t = 0; t < NT; t++) out[t] += even * from[t][d];
      for (int t = 0; t < NT; t++) out[t] += odd * from[t][d + 1];
    }
    if (D % 2) {
      const f32x16 even = as_float(load<u32x16>(panel) << 16);
      for (int t = 0; t < NT; t++) out[t] += even * from[t][D - 1];
    }
  } else {
    for (int64_t d = 0; d < D; d++, panel += 64) {
      const f32x16 w = load<f32x16>(panel);
      for (int t = 0; t < NT; t++) out[t] += w * from[t][d];
    }
  }
  for (int t = 0; t < NT; t++) memcpy(y[t], &out[t], width * 4);
}

template <int NT>
inline void tile(Layout layout, const uint8_t *panel, const Rows &r, int first, float *y, int64_t stride, int width) {
  int64_t rows[NT];
  float *to[NT];
  for (int t = 0; t < NT; t++) {
    rows[t] = r.index ? r.index[first + t] : first + t;
    to[t] = y + (int64_t)(first + t) * stride;
  }
  switch (layout) {
#define LATENT_CASE(name) \
  case Layout::name: return quantized_tile<Layout::name, NT>(panel, *r.q, r.D, rows, to, width);
    LATENT_CASE(q8_0) LATENT_CASE(q4_0) LATENT_CASE(q4_1) LATENT_CASE(q5_0) LATENT_CASE(q5_1) LATENT_CASE(iq4_nl)
    LATENT_CASE(q2_k) LATENT_CASE(q3_k) LATENT_CASE(q4_k) LATENT_CASE(q5_k) LATENT_CASE(q6_k) LATENT_CASE(iq4_xs)
#undef LATENT_CASE
    case Layout::bf16: return float_tile<NT, true>(panel, r.x, r.D, rows, to, width);
    case Layout::f32: return float_tile<NT, false>(panel, r.x, r.D, rows, to, width);
  }
}

// A row's sum is formed in the same order whatever the tile it falls in, so results do not depend on T.
void panel(Layout layout, const uint8_t *p, const Rows &r, float *y, int64_t stride, int width) {
  int t = 0;
#if defined(__AVX512F__)
  for (; t + 12 <= r.T; t += 12) tile<12>(layout, p, r, t, y, stride, width);
#endif
  for (; t + 4 <= r.T; t += 4) tile<4>(layout, p, r, t, y, stride, width);
  for (; t < r.T; t++) tile<1>(layout, p, r, t, y, stride, width);
}

void quantize(const float *x, int64_t D, int8_t *values, float *scales, int32_t *sums) {
  for (int64_t b = 0; b < D / block; b++, x += block, values += block) {
    f32x16 half[2], size[2];
    for (int j = 0; j < 2; j++) {
      half[j] = load<f32x16>(x + 16 * j);
      size[j] = half[j] < 0.f ? -half[j] : half[j];
    }
    const float most = largest(size[0] > size[1] ? size[0] : size[1]);
    const float inverse = most > 0 ? 127 / most : 0;
    scales[b] = most / 127;
    for (int j = 0; j < 2; j++) {
      const i32x16 codes = nearest(half[j] * inverse);
      store(values + 16 * j, __builtin_convertvector(codes, i8x16));
      int32_t c[16], total = 0;
      store(c, codes);
      for (int i = 0; i < 16; i++) total += c[i];
      sums[2 * b + j] = total;
    }
  }
}

void rms_norm(const float *x, int64_t D, const float *gain, float eps, float *y) {
  double squares = 0;
  int64_t d = 0;
  for (; d + 16 <= D; d += 16) {
    const f32x16 v = load<f32x16>(x + d);
    squares += sum(v * v);
  }
  for (; d < D; d++) squares += (double)x[d] * x[d];
  const float scale = (float)(1 / std::sqrt(squares / D + eps));
  for (d = 0; d < D; d++) y[d] = x[d] * scale * gain[d];
}

void swiglu(const float *gate, const float *up, int64_t count, float *y) {
  for (int64_t i = 0; i < count; i += 16) {
    const int n = count - i < 16 ? (int)(count - i) : 16;
    f32x16 g = {}, u = {};
    memcpy(&g, gate + i, n * 4);
    memcpy(&u, up + i, n * 4);
    const f32x16 out = g / (1.f + exp16(-g)) * u;
    memcpy(y + i, &out, n * 4);
  }
}

void add(float *x, const float *y, int64_t count) {
  for (int64_t i = 0; i < count; i++) x[i] += y[i];
}

}  // namespace

#define JOINED(isa) kernels_##isa
#define NAME(isa) JOINED(isa)
#define QUOTED(isa) #isa
#define TEXT(isa) QUOTED(isa)
static const Kernels table = {TEXT(LATENT_ISA), panel, quantize, rms_norm, swiglu, add};
extern const Kernels *const NAME(LATENT_ISA);
const Kernels *const NAME(LATENT_ISA) = &table;

}  // namespace cpu
