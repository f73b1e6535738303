// Takes ggml's blocks apart (layouts: ggml-common.h). Bit for bit; nothing is rounded.
#include "formats.h"

#include <cstring>

namespace cpu {
namespace {

uint16_t half_at(const uint8_t *from) {
  uint16_t bits;
  memcpy(&bits, from, 2);
  return bits;
}

// 32 codes of 4 bits: element i in the low half of byte i, element i + 16 in the high half.
void nibbles(const uint8_t *from, uint8_t *codes) {
  for (int i = 0; i < 16; i++) codes[i] = from[i] & 15, codes[i + 16] = from[i] >> 4;
}

void fifth_bits(const uint8_t *from, uint8_t *codes) {
  uint32_t bits;
  memcpy(&bits, from, 4);
  for (int i = 0; i < 32; i++) codes[i] |= (bits >> i & 1) << 4;
}

// The 6-bit scales and minimums of q4_k and q5_k, 12 bytes for eight of each.
void six_bit_scales(const uint8_t *s, Exploded &out) {
  for (int j = 0; j < 8; j++) {
    out.scales[j] = (int8_t)(j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
    out.mins[j] = (uint8_t)(j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6) << 4);
  }
}

void explode_small(Layout layout, const uint8_t *s, Exploded &out) {
  out.scale = half_at(s);
  switch (layout) {
    case Layout::q8_0:
      for (int i = 0; i < 32; i++) out.codes[i] = s[2 + i] ^ 0x80;
      return;
    case Layout::q4_1: out.min = half_at(s + 2); return nibbles(s + 4, out.codes);
    case Layout::q5_0: nibbles(s + 6, out.codes); return fifth_bits(s + 2, out.codes);
    case Layout::q5_1: out.min = half_at(s + 2); nibbles(s + 8, out.codes); return fifth_bits(s + 4, out.codes);
    default: return nibbles(s + 2, out.codes);  // q4_0, iq4_nl
  }
}

void explode_q2(const uint8_t *s, Exploded &out) {
  out.scale = half_at(s + 80), out.min = half_at(s + 82);
  for (int j = 0; j < 16; j++) out.scales[j] = (int8_t)(s[j] & 15), out.mins[j] = s[j] >> 4;
  for (int i = 0; i < 256; i++) out.codes[i] = s[16 + (i >> 7) * 32 + (i & 31)] >> (i >> 5 & 3) * 2 & 3;
}

void explode_q3(const uint8_t *s, Exploded &out) {
  out.scale = half_at(s + 108);
  for (int j = 0; j < 16; j++) {
    const int low = s[96 + (j & 7)] >> (j < 8 ? 0 : 4) & 15, high = s[104 + (j & 3)] >> (j >> 2) * 2 & 3;
    out.scales[j] = (int8_t)((low | high << 4) - 32);
  }
  for (int i = 0; i < 256; i++) {
    const int low = s[32 + (i >> 7) * 32 + (i & 31)] >> (i >> 5 & 3) * 2 & 3;
    out.codes[i] = (uint8_t)(low | (s[i & 31] >> (i >> 5) & 1) << 2);
  }
}

void explode_q4(const uint8_t *s, Exploded &out) {
  out.scale = half_at(s), out.min = half_at(s + 2);
  six_bit_scales(s + 4, out);
  for (int i = 0; i < 256; i++) out.codes[i] = s[16 + (i >> 6) * 32 + (i & 31)] >> (i >> 5 & 1) * 4 & 15;
}

void explode_q5(const uint8_t *s, Exploded &out) {
  out.scale = half_at(s), out.min = half_at(s + 2);
  six_bit_scales(s + 4, out);
  for (int i = 0; i < 256; i++) {
    const int low = s[48 + (i >> 6) * 32 + (i & 31)] >> (i >> 5 & 1) * 4 & 15;
    out.codes[i] = (uint8_t)(low | (s[16 + (i & 31)] >> (i >> 5) & 1) << 4);
  }
}

void explode_q6(const uint8_t *s, Exploded &out) {
  out.scale = half_at(s + 208);
  memcpy(out.scales, s + 192, 16);
  for (int i = 0; i < 256; i++) {
    const int half = i >> 7, group = i >> 5 & 3;
    const int low = s[64 * half + 32 * (group & 1) + (i & 31)] >> (group >> 1) * 4 & 15;
    out.codes[i] = (uint8_t)(low | (s[128 + 32 * half + (i & 31)] >> group * 2 & 3) << 4);
  }
}

void explode_iq4_xs(const uint8_t *s, Exploded &out) {
  out.scale = half_at(s);
  const uint16_t high = half_at(s + 2);
  for (int j = 0; j < 8; j++) {
    out.scales[j] = (int8_t)(((s[4 + j / 2] >> (j & 1) * 4 & 15) | (high >> 2 * j & 3) << 4) - 32);
    nibbles(s + 8 + 16 * j, out.codes + 32 * j);
  }
}

}  // namespace

void explode(Layout layout, const uint8_t *source, Exploded &out) {
  switch (layout) {
    case Layout::q2_k: return explode_q2(source, out);
    case Layout::q3_k: return explode_q3(source, out);
    case Layout::q4_k: return explode_q4(source, out);
    case Layout::q5_k: return explode_q5(source, out);
    case Layout::q6_k: return explode_q6(source, out);
    case Layout::iq4_xs: return explode_iq4_xs(source, out);
    default: return explode_small(layout, source, out);
  }
}

}  // namespace cpu
