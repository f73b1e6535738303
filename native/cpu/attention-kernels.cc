// The inner loops of attention, compiled once for each instruction set (LATENT_ISA), over the vectors of simd.h.
// Loops are ordered so that what is met again lies in the first cache: a few rows of k beside 16 queries, 64 columns of v.
#include <cmath>
#include <cstring>

#include "cpu.h"
#include "simd.h"

namespace cpu {
namespace {

// Sums live in vectors of just a register's width: wider ones, g++ keeps in memory.
#if defined(__AVX512F__)
constexpr int lane_count = 16, tile_queries = 4, tile_rows = 4, tile_columns = 4;  // accumulators: 16 of 32 registers
#elif defined(__AVX2__)
constexpr int lane_count = 8, tile_queries = 2, tile_rows = 4, tile_columns = 4;  // 8 of 16
#else
constexpr int lane_count = 4, tile_queries = 2, tile_rows = 4, tile_columns = 4;
#endif
typedef float vec __attribute__((vector_size(lane_count * 4), aligned(4)));

inline vec part_of(const float *from, int64_t left) {  // fewer than a vector left: the rest are zeros
  vec v = {};
  memcpy(&v, from, left * 4);
  return v;
}

#if defined(__clang__)
#define LATENT_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define LATENT_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, i32x16{__VA_ARGS__})
#endif

// Halves of all lanes added, then halves of those: the sum of one vector in the order that `folded16` has.
inline float folded(vec v) {
  float s[lane_count];
  store(s, v);
  for (int half = lane_count / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) s[i] += s[i + half];
  }
  return s[0];
}

#if defined(__AVX512F__)
// The sums of 16 vectors at once: lane 4 * i + j is that of v[4 * j + i].
inline f32x16 folded16(const f32x16 *v) {
  f32x16 eight[8], four[4], two[2];
  for (int i = 0; i < 8; i++) {
    const f32x16 a = v[2 * i], b = v[2 * i + 1];
    eight[i] = LATENT_SHUFFLE(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               LATENT_SHUFFLE(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  }
  for (int i = 0; i < 4; i++) {
    const f32x16 a = eight[2 * i], b = eight[2 * i + 1];
    four[i] = LATENT_SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
              LATENT_SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  }
  for (int i = 0; i < 2; i++) {
    const f32x16 a = four[2 * i], b = four[2 * i + 1];
    two[i] = LATENT_SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
             LATENT_SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  }
  return LATENT_SHUFFLE(two[0], two[1], 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30) +
         LATENT_SHUFFLE(two[0], two[1], 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31);
}
#endif

template <int NQ, int NK>
inline void score_tile(const float *q, int64_t q_stride, const float *k, int64_t k_stride, int64_t D, float *s, int64_t s_stride) {
  vec acc[NK * NQ] = {};
  int64_t d = 0;
  for (; d + lane_count <= D; d += lane_count) {
    vec a[NQ];
    for (int j = 0; j < NQ; j++) a[j] = load<vec>(q + j * q_stride + d);
    for (int i = 0; i < NK; i++) {
      const vec b = load<vec>(k + i * k_stride + d);
      for (int j = 0; j < NQ; j++) acc[i * NQ + j] += a[j] * b;
    }
  }
  if (d < D) {
    for (int i = 0; i < NK; i++) {
      const vec b = part_of(k + i * k_stride + d, D - d);
      for (int j = 0; j < NQ; j++) acc[i * NQ + j] += part_of(q + j * q_stride + d, D - d) * b;
    }
  }
#if defined(__AVX512F__)
  if constexpr (NQ == 4 && NK == 4) {
    const vec sums = folded16(acc);
    for (int j = 0; j < NQ; j++) memcpy(s + j * s_stride, (const char *)&sums + 16 * j, 16);
    return;
  }
#endif
  for (int i = 0; i < NK; i++) {
    for (int j = 0; j < NQ; j++) s[j * s_stride + i] = folded(acc[i * NQ + j]);
  }
}

template <int NK>
inline void score_rows(const float *q, int64_t q_stride, int queries, const float *k, int64_t k_stride, int64_t D, float *s,
                       int64_t s_stride) {
  constexpr int NQ = tile_queries;
  int j = 0;
  for (; j + NQ <= queries; j += NQ) score_tile<NQ, NK>(q + j * q_stride, q_stride, k, k_stride, D, s + j * s_stride, s_stride);
  for (; j < queries; j++) score_tile<1, NK>(q + j * q_stride, q_stride, k, k_stride, D, s + j * s_stride, s_stride);
}

void scores(const float *q, int64_t q_stride, int queries, const float *k, int64_t k_stride, int64_t D, int count, float *s,
            int64_t s_stride) {
  constexpr int together = 16;  // queries that stay in the first cache while all of k passes
  for (; queries > 0; queries -= together, q += together * q_stride, s += together * s_stride) {
    const int n = queries < together ? queries : together;
    int i = 0;
    for (; i + tile_rows <= count; i += tile_rows) {
      score_rows<tile_rows>(q, q_stride, n, k + i * k_stride, k_stride, D, s + i, s_stride);
    }
    for (; i < count; i++) score_rows<1>(q, q_stride, n, k + i * k_stride, k_stride, D, s + i, s_stride);
  }
}

float soften(float *s, int count, float scale, Piece *so_far) {
  const f32x16 none = splat(-INFINITY);
  f32x16 most = none, all = {};
  int i = 0;
  for (; i + 16 <= count; i += 16) {
    const f32x16 v = load<f32x16>(s + i) * scale;
    store(s + i, v);
    most = v > most ? v : most;
  }
  float max = so_far->max, lane[16];
  for (; i < count; i++) max = std::fmax(max, s[i] *= scale);
  store(lane, most);
  for (int j = 0; j < 16; j++) max = lane[j] > max ? lane[j] : max;
  for (i = 0; i + 16 <= count; i += 16) {
    const f32x16 e = exp16(load<f32x16>(s + i) - max);
    store(s + i, e);
    all += e;
  }
  float rest = 0;
  if (i < count) {
    const f32x16 e = exp16(partial(s + i, count - i) - max);
    memcpy(s + i, &e, (count - i) * 4);
    for (int j = 0; i + j < count; j++) rest += e[j];
  }
  const float keep = so_far->total > 0 ? std::exp(so_far->max - max) : 0;
  *so_far = {max, so_far->total * keep + (sum(all) + rest)};
  return keep;
}

template <int NQ, int NV>
inline void mix_tile(const float *p, int64_t p_stride, const float *v, int64_t v_stride, int count, float *o, int64_t o_stride) {
  vec acc[NQ][NV];
  for (int j = 0; j < NQ; j++) {
    for (int c = 0; c < NV; c++) acc[j][c] = load<vec>(o + j * o_stride + lane_count * c);
  }
  for (int i = 0; i < count; i++, v += v_stride) {
    vec row[NV];
    for (int c = 0; c < NV; c++) row[c] = load<vec>(v + lane_count * c);
    for (int j = 0; j < NQ; j++) {
      for (int c = 0; c < NV; c++) acc[j][c] += row[c] * p[j * p_stride + i];
    }
  }
  for (int j = 0; j < NQ; j++) {
    for (int c = 0; c < NV; c++) store(o + j * o_stride + lane_count * c, acc[j][c]);
  }
}

template <int NV>
inline void mix_columns(const float *p, int64_t p_stride, int queries, const float *v, int64_t v_stride, int count, float *o,
                        int64_t o_stride) {
  constexpr int NQ = tile_queries;
  int j = 0;
  for (; j + NQ <= queries; j += NQ) mix_tile<NQ, NV>(p + j * p_stride, p_stride, v, v_stride, count, o + j * o_stride, o_stride);
  for (; j < queries; j++) mix_tile<1, NV>(p + j * p_stride, p_stride, v, v_stride, count, o + j * o_stride, o_stride);
}

void mix(const float *p, int64_t p_stride, int queries, const float *v, int64_t v_stride, int64_t D, int count, float *o,
         int64_t o_stride) {
  constexpr int wide = lane_count * tile_columns;
  int64_t d = 0;
  for (; d + wide <= D; d += wide) mix_columns<tile_columns>(p, p_stride, queries, v + d, v_stride, count, o + d, o_stride);
  for (; d + lane_count <= D; d += lane_count) mix_columns<1>(p, p_stride, queries, v + d, v_stride, count, o + d, o_stride);
  for (; d < D; d++) {
    for (int j = 0; j < queries; j++) {
      for (int i = 0; i < count; i++) o[j * o_stride + d] += p[j * p_stride + i] * v[i * v_stride + d];
    }
  }
}

void shrink(float *o, int64_t D, float factor) {
  for (int64_t d = 0; d < D; d++) o[d] *= factor;
}

void join(float *o, float keep, const float *a, float take, int64_t D) {
  for (int64_t d = 0; d < D; d++) o[d] = o[d] * keep + a[d] * take;
}

inline float half(const uint8_t *from) {
  uint16_t upper;
  memcpy(&upper, from, 2);
  const uint32_t bits = (uint32_t)upper << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

void widen_bf16(const uint8_t *from, int64_t count, float *to) {
  for (int64_t i = 0; i < count; i++) to[i] = half(from + 2 * i);
}

void widen_codes(const int8_t *codes, const uint8_t *scales, int64_t count, float *to) {
  for (int64_t first = 0; first < count; first += scaled, scales += 2) {
    const int64_t end = first + scaled < count ? first + scaled : count;
    const float scale = half(scales);
    for (int64_t i = first; i < end; i++) to[i] = (float)codes[i] * scale;
  }
}

}  // namespace

#define JOINED(isa) attention_##isa
#define NAME(isa) JOINED(isa)
static const AttentionKernels table = {scores, soften, mix, shrink, join, widen_bf16, widen_codes};
extern const AttentionKernels *const NAME(LATENT_ISA);
const AttentionKernels *const NAME(LATENT_ISA) = &table;

}  // namespace cpu
