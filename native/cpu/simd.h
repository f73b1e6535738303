// Vectors of 16 floats, as GCC vector types: the compiler splits them where registers are narrower. Only what has no
// such form (the integer dot product, half floats) is written apart for each instruction set. Included by kernels.cc,
// which is compiled once for each; everything here is local to it.
#pragma once
#include <cmath>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "formats.h"

namespace cpu {
namespace {

typedef float f32x16 __attribute__((vector_size(64), aligned(4)));
typedef int32_t i32x16 __attribute__((vector_size(64), aligned(4)));
typedef uint32_t u32x16 __attribute__((vector_size(64), aligned(4)));
typedef uint8_t u8x64 __attribute__((vector_size(64), aligned(1)));

template <class V> inline V load(const void *from) { V v; memcpy(&v, from, sizeof v); return v; }
template <class V> inline void store(void *to, V v) { memcpy(to, &v, sizeof v); }
inline f32x16 splat(float x) { return x - f32x16{}; }
inline f32x16 to_float(i32x16 v) { return __builtin_convertvector(v, f32x16); }
inline f32x16 as_float(u32x16 v) { f32x16 f; memcpy(&f, &v, sizeof f); return f; }

// a * b + c, rounded once where the processor can. Written out: left to the compiler, one size of tile may be fused and
// another not, and a row's bits would depend on its company (g++ 13 does so).
inline f32x16 fused(f32x16 a, f32x16 b, f32x16 c) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  f32x16 out;
  for (int i = 0; i < 2; i++) {
    __m256 x, y, z;
    memcpy(&x, (const char *)&a + 32 * i, 32), memcpy(&y, (const char *)&b + 32 * i, 32), memcpy(&z, (const char *)&c + 32 * i, 32);
    z = _mm256_fmadd_ps(x, y, z);
    memcpy((char *)&out + 32 * i, &z, 32);
  }
  return out;
#else
  return a * b + c;
#endif
}

inline float sum(f32x16 v) {
  float s[16];
  store(s, v);
  float t[4];
  for (int i = 0; i < 4; i++) t[i] = (s[i] + s[i + 4]) + (s[i + 8] + s[i + 12]);
  return (t[0] + t[1]) + (t[2] + t[3]);
}

inline int32_t sum(i32x16 v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_epi32((__m512i)v);
#else
  int32_t s[16], total = 0;
  store(s, v);
  for (int i = 0; i < 16; i++) total += s[i];
  return total;
#endif
}

inline f32x16 halves(const uint8_t *from) {  // 16 f16 -> f32
#if defined(__AVX512F__)
  return (f32x16)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i *)from));  // the plain one warns in g++ 12
#elif defined(__F16C__)
  f32x16 v;
  __m256 low = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
  __m256 high = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + 16)));
  memcpy(&v, &low, 32);
  memcpy((char *)&v + 32, &high, 32);
  return v;
#else
  float out[16];
  for (int i = 0; i < 16; i++) {
    uint16_t h;
    memcpy(&h, from + 2 * i, 2);
    uint32_t exponent = (h >> 10) & 31, fraction = h & 1023;
    float m = exponent == 0 ? fraction * 0x1p-24f : std::ldexp((float)(1024 + fraction), (int)exponent - 25);
    if (exponent == 31) m = fraction ? NAN : INFINITY;
    out[i] = h & 0x8000 ? -m : m;
  }
  return load<f32x16>(out);
#endif
}

// acc[lane] += sum over 4 of w[lane][j] * x[j]. `Codes::wide` holds bytes less 128, the others small unsigned codes;
// AVX2 has products of unsigned and signed bytes only, in pairs that must fit 16 bits, so wide codes trade signs with x.
enum class Codes { small, wide };

template <Codes codes>
inline i32x16 dot4(i32x16 acc, u8x64 w, const int8_t *x) {
#if defined(__AVX512VNNI__)
  // written out: compilers split the broadcast off into a register of its own
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*(const int8_t(*)[4])x));
  return acc;
#elif defined(__AVX2__)
  int four;
  memcpy(&four, x, 4);
  const __m256i xs = _mm256_set1_epi32(four), ones = _mm256_set1_epi16(1);
  for (int i = 0; i < 2; i++) {
    __m256i bytes, part;
    memcpy(&bytes, (const char *)&w + 32 * i, 32);
    memcpy(&part, (const char *)&acc + 32 * i, 32);
    const __m256i pairs = codes == Codes::small ? _mm256_maddubs_epi16(bytes, xs)
                                                : _mm256_maddubs_epi16(_mm256_abs_epi8(bytes), _mm256_sign_epi8(xs, bytes));
    part = _mm256_add_epi32(part, _mm256_madd_epi16(pairs, ones));
    memcpy((char *)&acc + 32 * i, &part, 32);
  }
  return acc;
#else
  for (int lane = 0; lane < lanes; lane++) {
    for (int j = 0; j < 4; j++) {
      const int code = codes == Codes::small ? w[lane * 4 + j] : (int8_t)w[lane * 4 + j];
      acc[lane] += code * x[j];
    }
  }
  return acc;
#endif
}

#if defined(__AVX512VNNI__)
// The same with the four numbers of x in every lane of a register, for more than one w.
inline i32x16 dot4(i32x16 acc, u8x64 w, i32x16 x) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
  return acc;
}
#endif

// value << bits in every lane, shifted there: a scalar shift would cost a way from the integer registers.
template <int bits>
inline i32x16 splat_shifted(const int32_t *value) {
#if defined(__AVX512F__)
  return (i32x16)_mm512_maskz_slli_epi32(0xffff, _mm512_set1_epi32(*value), bits);
#else
  return *value * (1 << bits) - i32x16{};
#endif
}

// Whether wide codes are left unsigned, and 128 * (sum of x) is taken off instead.
#if defined(__AVX512VNNI__)
constexpr bool unsigned_only = true;
#else
constexpr bool unsigned_only = false;
#endif

inline float largest(f32x16 v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v);
#else
  float s[16], m = 0;
  store(s, v);
  for (int i = 0; i < 16; i++) m = s[i] > m ? s[i] : m;
  return m;
#endif
}

// Adding 1.5 * 2^23 leaves the nearest integer (ties to even) in a float's low bits.
inline i32x16 nearest(f32x16 v) {
  const f32x16 shifted = v + 12582912.f;
  i32x16 bits;
  memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4b400000;
}

inline f32x16 partial(const float *from, int64_t left) {  // fewer than 16 left: the rest are zeros
  f32x16 v = {};
  memcpy(&v, from, left * 4);
  return v;
}

// exp by splitting off powers of two and a degree-6 polynomial (Cephes' coefficients); relative error about 2e-7.
inline f32x16 exp16(f32x16 x) {
  x = x < splat(-87.f) ? splat(-87.f) : x;
  x = x > splat(88.f) ? splat(88.f) : x;
  const f32x16 shifted = x * 1.44269504088896341f + 12582912.f;  // 1.5 * 2^23: the sum's low bits are the nearest integer
  const f32x16 n = shifted - 12582912.f;
  f32x16 r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  f32x16 p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  i32x16 e = __builtin_convertvector(n, i32x16);
  e = (e + 127) << 23;
  f32x16 power;
  memcpy(&power, &e, sizeof power);
  return p * power;
}

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
#if defined(__AVX512F__)
inline __m512i sixteen(__m128i bytes, bool with_sign) {
  return with_sign ? _mm512_maskz_cvtepi8_epi32(0xffff, bytes) : _mm512_maskz_cvtepu8_epi32(0xffff, bytes);
}
inline f32x16 signed_bytes(const uint8_t *from) {
  return to_float((i32x16)sixteen(_mm_loadu_si128((const __m128i *)from), true));
}
inline f32x16 plain_bytes(const uint8_t *from) {
  return to_float((i32x16)sixteen(_mm_loadu_si128((const __m128i *)from), false));
}
#else
inline f32x16 signed_bytes(const uint8_t *from) { return __builtin_convertvector(load<i8x16>(from), f32x16); }
inline f32x16 plain_bytes(const uint8_t *from) { return __builtin_convertvector(load<u8x16>(from), f32x16); }
#endif

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

}  // namespace
}  // namespace cpu
