// The inner loops, compiled once for each instruction set (LATENT_ISA, with its compiler flags), over the vectors
// of simd.h.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu.h"
#include "simd.h"

namespace cpu {
namespace {

constexpr int ahead = 1 << 12;  // bytes of weights asked for before they are needed; more would leave a short task

constexpr int log2(int n) { return n <= 1 ? 0 : 1 + log2(n / 2); }

// P panels of weights, `apart` bytes from each other, against rows [row, row + NT) of a strip of n. Two panels share
// every number of x that is fetched: with one, this processor would wait for its two loads a cycle, not for arithmetic.
//
// Codes are unsigned, the value is scale * (code - zero) + min, so the true sum is the unsigned one less
// zero * (sum of x), which is where the accumulators start, plus min * (sum of x).
template <Layout layout, int NT, int P>
inline void quantized_tile(const uint8_t *panel, size_t apart, const uint8_t *strip, int n, int row, int64_t D, f32x16 (*sums)[NT]) {
  constexpr Form f = form(layout);
  constexpr int subs = block / f.sub;
  constexpr Codes codes = f.bytes || f.levels ? Codes::wide : Codes::small;
  constexpr int zero = codes == Codes::wide && !unsigned_only ? f.zero - 128 : f.zero;
  f32x16 out[P][NT] = {}, d[P] = {}, least[P] = {};
  for (int64_t b = 0; b < D / block; b++, strip += n * strip_block) {
    if (f.super && b % 8 == 0) {
#pragma GCC unroll 2
      for (int p = 0; p < P; p++) {
        d[p] = halves(panel + p * apart);
        if (f.min) least[p] = halves(panel + p * apart + 32);
      }
      panel += head_bytes(f);
    }
#pragma GCC unroll 2
    for (int p = 0; p < P; p++) {
      for (int line = 0; line < block_bytes(f); line += 64) __builtin_prefetch(panel + p * apart + ahead + line, 0, 2);
    }
    const auto *x = (const int8_t *)strip + row * block;
    const auto *xs = (const float *)(strip + n * block) + row, *weighted = xs + n;
    const auto *less = (const int32_t *)(weighted + n), *half = less + n;
    const uint8_t *scales = panel + code_bytes(f) + top_bytes(f);
    for (int s = 0; s < subs; s++) {
      i32x16 acc[P][NT];
#pragma GCC unroll 12
      for (int t = 0; t < NT; t++) {
        const i32x16 first = zero ? splat_shifted<log2(zero)>(subs == 2 ? half + s * n + t : less + t) : i32x16{};
#pragma GCC unroll 2
        for (int p = 0; p < P; p++) acc[p][t] = first;
      }
#pragma GCC unroll 8
      for (int g = s * 8 / subs; g < (s + 1) * 8 / subs; g++) {
        u8x64 w[P];
#pragma GCC unroll 2
        for (int p = 0; p < P; p++) {
          w[p] = group_of<layout>(panel + p * apart, g);
          if (codes == Codes::wide && !unsigned_only) w[p] ^= 128;
        }
#pragma GCC unroll 12
        for (int t = 0; t < NT; t++) {
          const int8_t *four = x + t * block + g * 4;
#if defined(__AVX512VNNI__)
          if (P > 1) {
            const i32x16 all = load<int32_t>(four) - i32x16{};
#pragma GCC unroll 2
            for (int p = 0; p < P; p++) acc[p][t] = dot4(acc[p][t], w[p], all);
            continue;
          }
#endif
          acc[0][t] = dot4<codes>(acc[0][t], w[0], four);
        }
      }
#pragma GCC unroll 2
      for (int p = 0; p < P; p++) {
        const uint8_t *own = scales + p * apart;
        const f32x16 scale = f.super ? d[p] * signed_bytes(own + s * lanes) : halves(own);
#pragma GCC unroll 12
        for (int t = 0; t < NT; t++) out[p][t] = fused(to_float(acc[p][t]), scale * xs[t], out[p][t]);
        if (f.min) {
          const f32x16 min = f.super ? -least[p] * plain_bytes(own + (subs + s) * lanes) : halves(own + lanes * 2);
#pragma GCC unroll 12
          for (int t = 0; t < NT; t++) {
            const float total = subs == 2 ? xs[t] * (float)-half[s * n + t] : weighted[t];
            out[p][t] = fused(min, splat(total), out[p][t]);
          }
        }
      }
    }
    panel += block_bytes(f);
  }
#pragma GCC unroll 2
  for (int p = 0; p < P; p++) {
#pragma GCC unroll 12
    for (int t = 0; t < NT; t++) sums[p][t] = out[p][t];
  }
}

// One pair (bf16) or one element (f32) of 16 rows at a time; products and sums in f32.
template <int NT, int P, bool half>
inline void float_tile(const uint8_t *panel, size_t apart, const float *x, int n, int64_t D, f32x16 (*sums)[NT]) {
  f32x16 out[P][NT] = {}, even[P], odd[P];
  const auto fetch = [&] {
#pragma GCC unroll 2
    for (int p = 0; p < P; p++) {
      const uint8_t *own = panel + p * apart;
      const u32x16 pair = load<u32x16>(own);
      even[p] = half ? as_float(pair << 16) : load<f32x16>(own);
      odd[p] = half ? as_float(pair & 0xffff0000u) : f32x16{};
    }
  };
  const auto add = [&](const f32x16 *w) {
#pragma GCC unroll 12
    for (int t = 0; t < NT; t++) {
#pragma GCC unroll 2
      for (int p = 0; p < P; p++) out[p][t] = fused(w[p], splat(x[t]), out[p][t]);
    }
    x += n;
  };
  for (int64_t d = 0; d < D; d += half ? 2 : 1, panel += 64) {
    fetch();
    add(even);
    if (half && d + 1 < D) add(odd);
  }
#pragma GCC unroll 2
  for (int p = 0; p < P; p++) {
#pragma GCC unroll 12
    for (int t = 0; t < NT; t++) sums[p][t] = out[p][t];
  }
}

#if defined(__AVX512BF16__)
// Pairs of bf16 on both sides; x is [D / 2][n][2].
template <int NT, int P>
inline void half_tile(const uint8_t *panel, size_t apart, const uint8_t *x, int n, int64_t D, f32x16 (*sums)[NT]) {
  f32x16 out[P][NT] = {};
  for (int64_t d = 0; d < D; d += 2, x += 4 * n, panel += 64) {
#pragma GCC unroll 2
    for (int p = 0; p < P; p++) {
      const u32x16 w = load<u32x16>(panel + p * apart);
#pragma GCC unroll 12
      for (int t = 0; t < NT; t++) {
        asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(out[p][t]) : "v"(w), "m"(*(const uint16_t(*)[2])(x + 4 * t)));
      }
    }
  }
#pragma GCC unroll 2
  for (int p = 0; p < P; p++) {
#pragma GCC unroll 12
    for (int t = 0; t < NT; t++) sums[p][t] = out[p][t];
  }
}

void pack_halves(const float *const *x, int64_t D, int rows, int n, uint8_t *strip) {
  auto *pairs = (uint32_t *)strip;
  if (rows < n) memset(strip, 0, (size_t)(D + 1) / 2 * n * 4);
  for (int t = 0; t < rows; t++) {
    for (int64_t d = 0; d < D; d += 32) {
      const int64_t left = D - d;
      const f32x16 low = left >= 16 ? load<f32x16>(x[t] + d) : partial(x[t] + d, left);
      const f32x16 high = left >= 32 ? load<f32x16>(x[t] + d + 16) : left > 16 ? partial(x[t] + d + 16, left - 16) : f32x16{};
      const u32x16 both = (u32x16)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
      for (int i = 0; i < 16 && d + 2 * i < D; i++) pairs[(d / 2 + i) * n + t] = both[i];
    }
  }
}
#else
constexpr auto pack_halves = nullptr;
#endif

// A row's sum is formed in the same order whatever the strip it lies in, so results do not depend on T.
template <int NT, int P>
void tile(Layout layout, const uint8_t *panel, size_t apart, const Strip &s, int row, int64_t D, float *y, int64_t stride, int width) {
  f32x16 out[P][NT];
  const auto *floats = (const float *)s.data + row;
  switch (layout) {
#define LATENT_CASE(name) \
  case Layout::name: quantized_tile<Layout::name, NT, P>(panel, apart, s.data, s.padded, row, D, out); break;
    LATENT_CASE(q8_0) LATENT_CASE(q4_0) LATENT_CASE(q4_1) LATENT_CASE(q5_0) LATENT_CASE(q5_1) LATENT_CASE(iq4_nl)
    LATENT_CASE(q2_k) LATENT_CASE(q3_k) LATENT_CASE(q4_k) LATENT_CASE(q5_k) LATENT_CASE(q6_k) LATENT_CASE(iq4_xs)
#undef LATENT_CASE
#if defined(__AVX512BF16__)
    case Layout::bf16: half_tile<NT, P>(panel, apart, s.data + 4 * row, s.padded, D, out); break;
#else
    case Layout::bf16: float_tile<NT, P, true>(panel, apart, floats, s.padded, D, out); break;
#endif
    case Layout::f32: float_tile<NT, P, false>(panel, apart, floats, s.padded, D, out); break;
  }
#pragma GCC unroll 2
  for (int p = 0; p < P; p++) {
#pragma GCC unroll 12
    for (int t = 0; t < NT; t++) {
      if (row + t >= s.rows) break;
      float *to = y + (row + t) * stride + p * lanes;
      if (width >= (p + 1) * lanes) store(to, out[p][t]);
      else memcpy(to, &out[p][t], (width - p * lanes) * 4);
    }
  }
}

template <int NT>
void rows(Layout layout, const uint8_t *panel, size_t apart, int panels, const Strip &s, int64_t D, float *y, int64_t stride, int width) {
  int p = 0;
#if defined(__AVX512F__)  // with 32 registers
  for (; NT >= 4 && p + 2 <= panels; p += 2) {
    for (int row = 0; row < s.rows; row += NT) {
      tile<NT, 2>(layout, panel + p * apart, apart, s, row, D, y + p * lanes, stride, width - p * lanes);
    }
  }
#endif
  for (; p < panels; p++) {
    for (int row = 0; row < s.rows; row += NT) {
      tile<NT, 1>(layout, panel + p * apart, apart, s, row, D, y + p * lanes, stride, width - p * lanes);
    }
  }
}

void multiply(Layout layout, const uint8_t *panel, size_t apart, int panels, const Strip &s, int64_t D, float *y, int64_t stride,
              int width) {
  switch (s.padded) {
#if defined(__AVX512F__)
    case 12: case 6: return rows<6>(layout, panel, apart, panels, s, D, y, stride, width);
    case 8:
#endif
    case 4: return rows<4>(layout, panel, apart, panels, s, D, y, stride, width);
    case 2: return rows<2>(layout, panel, apart, panels, s, D, y, stride, width);
    default: return rows<1>(layout, panel, apart, panels, s, D, y, stride, width);
  }
}

// One block of one row, into row t of a strip of n rows.
inline void quantize_block(const float *x, uint8_t *strip, int t, int n) {
  f32x16 part[2], size[2];
  for (int j = 0; j < 2; j++) {
    part[j] = load<f32x16>(x + 16 * j);
    size[j] = part[j] < 0.f ? -part[j] : part[j];
  }
  const float most = largest(size[0] > size[1] ? size[0] : size[1]);
  const float inverse = most > 0 ? 127 / most : 0, scale = most / 127;
  auto *values = (int8_t *)strip + t * block;
  auto *xs = (float *)(strip + n * block), *weighted = xs + n;
  auto *less = (int32_t *)(weighted + n), *half = less + n;
  for (int j = 0; j < 2; j++) {
    const i32x16 codes = nearest(part[j] * inverse);
    store(values + 16 * j, __builtin_convertvector(codes, i8x16));
    half[j * n + t] = -sum(codes);
  }
  less[t] = half[t] + half[n + t];
  xs[t] = scale, weighted[t] = scale * (float)-less[t];
}

void pack_integers(const float *const *x, int64_t D, int rows, int n, uint8_t *strip) {
  if (rows < n) memset(strip, 0, (size_t)n * (D / block) * strip_block);
  for (int64_t b = 0; b < D / block; b++, strip += n * strip_block) {
    for (int t = 0; t < rows; t++) quantize_block(x[t] + b * block, strip, t, n);
  }
}

void pack_floats(const float *const *x, int64_t D, int rows, int n, uint8_t *strip) {
  auto *to = (float *)strip;
  for (int t = 0; t < n; t++) {
    for (int64_t d = 0; d < D; d++) to[d * n + t] = t < rows ? x[t][d] : 0;
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
#if defined(__AVX512F__)
constexpr int widest = 6;  // times two panels, and as many sums: 24 registers of 32
#else
constexpr int widest = 4;
#endif
static const Kernels table = {TEXT(LATENT_ISA), widest, false, multiply, pack_integers, pack_floats, pack_halves, nullptr, rms_norm,
                              swiglu, add};
extern const Kernels *const NAME(LATENT_ISA);
const Kernels *const NAME(LATENT_ISA) = &table;

}  // namespace cpu
