// Checkpoint rows -> panels, once, at upload. Values are kept bit for bit; only their order changes.
#include <cstring>

#include "cpu.h"

namespace cpu {

namespace {

float f16_to_f32(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023, bits;
  if (exponent == 31) bits = sign | 0x7f800000 | fraction << 13;
  else if (exponent != 0) bits = sign | (exponent + 112) << 23 | fraction << 13;
  else {
    float tiny = fraction * 0x1p-24f;
    memcpy(&bits, &tiny, 4);
    bits |= sign;
  }
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

float bf16_to_f32(uint16_t b) {
  uint32_t bits = (uint32_t)b << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

float f8_to_f32(uint8_t b) {
  int exponent = (b >> 3) & 15, fraction = b & 7;
  float magnitude = exponent == 0 ? fraction * 0x1p-9f : (8 + fraction) * __builtin_ldexpf(1, exponent - 10);
  if (exponent == 15 && fraction == 7) magnitude = __builtin_nanf("");
  return b & 0x80 ? -magnitude : magnitude;
}

Layout layout_of(int dtype) {
  switch (dtype) {
    case LATENT_BF16: return Layout::bf16;
    case LATENT_Q8_0: return Layout::q8_0;
    case LATENT_Q4_0: return Layout::q4_0;
    case LATENT_Q4_1: return Layout::q4_1;
    case LATENT_Q5_0: return Layout::q5_0;
    case LATENT_Q5_1: return Layout::q5_1;
    case LATENT_IQ4_NL: return Layout::iq4_nl;
    case LATENT_Q2_K: return Layout::q2_k;
    case LATENT_Q3_K: return Layout::q3_k;
    case LATENT_Q4_K: return Layout::q4_k;
    case LATENT_Q5_K: return Layout::q5_k;
    case LATENT_Q6_K: return Layout::q6_k;
    case LATENT_IQ4_XS: return Layout::iq4_xs;
    default: return Layout::f32;
  }
}

size_t panel_bytes(Layout layout, int64_t D) {
  if (layout == Layout::f32) return D * lanes * 4;
  if (layout == Layout::bf16) return (D + 1) / 2 * lanes * 4;
  return row_panel_bytes(form(layout), D);
}

uint32_t word_at(const uint8_t *from) {
  uint32_t word;
  memcpy(&word, from, 4);
  return word;
}

// Codes of one block, four at a time, into a row's place in a panel of zeros.
void put_codes(Form f, const uint8_t *codes, int lane, uint8_t *to) {
  auto *words = (uint32_t *)to + lane, *top = (uint32_t *)(to + code_bytes(f)) + lane;
  for (int g = 0; g < block / 4; g++) {
    const uint32_t four = word_at(codes + 4 * g);
    if (f.bytes) words[g * lanes] = four;
    else words[g / 2 * lanes] |= (four & 0x0f0f0f0f) << (g % 2 * 4);
    if (f.top == 1) top[0] |= (four >> 4 & 0x01010101) << g;
    if (f.top == 2) top[g / 4 * lanes] |= (four >> 4 & 0x03030303) << (g % 4 * 2);
  }
}

// q4_0 and q8_0 straight from the checkpoint's words: most of most files.
void put_q4_0(const uint8_t *row, int64_t D, int lane, uint8_t *panel) {
  constexpr Form f = form(Layout::q4_0);
  constexpr uint32_t low = 0x0f0f0f0f;
  for (int64_t b = 0; b < D / block; b++, row += 18, panel += block_bytes(f)) {
    auto *words = (uint32_t *)panel + lane;
    for (int j = 0; j < 2; j++) {  // bytes hold elements i and i + 16
      const uint32_t even = word_at(row + 2 + 8 * j), odd = word_at(row + 6 + 8 * j);
      words[j * lanes] = (even & low) | (odd & low) << 4;
      words[(j + 2) * lanes] = (even >> 4 & low) | (odd & ~low);
    }
    memcpy(panel + code_bytes(f) + lane * 2, row, 2);
  }
}

void put_q8_0(const uint8_t *row, int64_t D, int lane, uint8_t *panel) {
  constexpr Form f = form(Layout::q8_0);
  for (int64_t b = 0; b < D / block; b++, row += 34, panel += block_bytes(f)) {
    for (int g = 0; g < 8; g++) ((uint32_t *)panel)[g * lanes + lane] = word_at(row + 2 + 4 * g) ^ 0x80808080;
    memcpy(panel + code_bytes(f) + lane * 2, row, 2);
  }
}

uint8_t code_at(Form f, const uint8_t *from, int lane, int i) {
  const int group = i / 4, place = lane * 4 + i % 4;
  if (f.bytes) return from[group * 64 + place];
  const uint8_t *top = from + code_bytes(f);
  int code = from[group / 2 * 64 + place] >> (group % 2 * 4) & 15;
  if (f.top == 1) code |= (top[place] >> group & 1) << 4;
  if (f.top == 2) code |= (top[group / 4 * 64 + place] >> (group % 4 * 2) & 3) << 4;
  return (uint8_t)code;
}

// One row of the checkpoint into its lane of a panel of zeros.
void put_blocks(Layout layout, const uint8_t *row, int64_t D, int lane, uint8_t *panel) {
  const Form f = form(layout);
  const int small = f.source_block / block, subs = block / f.sub;
  Exploded e;
  for (int64_t b = 0; b < D / block; b += small, row += f.source_bytes) {
    explode(layout, row, e);
    uint8_t *head = panel + block_at(f, b) - head_bytes(f);
    if (f.super) memcpy(head + lane * 2, &e.scale, 2);
    if (f.super && f.min) memcpy(head + lanes * 2 + lane * 2, &e.min, 2);
    for (int j = 0; j < small; j++) {
      uint8_t *to = panel + block_at(f, b + j), *scales = to + code_bytes(f) + top_bytes(f);
      put_codes(f, e.codes + j * block, lane, to);
      if (!f.super) {
        memcpy(scales + lane * 2, &e.scale, 2);
        if (f.min) memcpy(scales + lanes * 2 + lane * 2, &e.min, 2);
      }
      for (int k = 0; f.super && k < subs; k++) {
        scales[k * lanes + lane] = (uint8_t)e.scales[j * subs + k];
        if (f.min) scales[(subs + k) * lanes + lane] = e.mins[j * subs + k];
      }
    }
  }
}

float half_value(const uint8_t *from) {
  uint16_t bits;
  memcpy(&bits, from, 2);
  return f16_to_f32(bits);
}

// Element d of a row, as the format defines it.
float value_at(Layout layout, const uint8_t *panel, int64_t d, int lane) {
  const Form f = form(layout);
  const int64_t b = d / block;
  const int subs = block / f.sub, sub = d % block / f.sub;
  const uint8_t *at = panel + block_at(f, b), *scales = at + code_bytes(f) + top_bytes(f);
  int code = code_at(f, at, lane, d % block);
  if (f.levels) code = iq4_levels[code];
  if (!f.super) {
    const float value = half_value(scales + lane * 2) * (code - f.zero);
    return f.min ? value + half_value(scales + lanes * 2 + lane * 2) : value;
  }
  const uint8_t *head = panel + block_at(f, b / 8 * 8) - head_bytes(f);
  const float scale = half_value(head + lane * 2) * (int8_t)scales[sub * lanes + lane];
  if (!f.min) return scale * (code - f.zero);
  return scale * code - half_value(head + lanes * 2 + lane * 2) * scales[(subs + sub) * lanes + lane];
}

float element(int dtype, const uint8_t *data, int64_t at) {
  switch (dtype) {
    case LATENT_F16: return f16_to_f32(((const uint16_t *)data)[at]);
    case LATENT_F8_E4M3: return f8_to_f32(data[at]);
    default: return ((const float *)data)[at];
  }
}

void put_f32(int dtype, const uint8_t *data, int64_t first, int64_t D, const float *scales, int lane, float *panel) {
  for (int64_t d = 0; d < D; d++) {
    panel[d * lanes + lane] = element(dtype, data, first + d) * (scales ? scales[d / 128] : 1);
  }
}

void put_bf16(const uint16_t *row, int64_t D, int lane, uint16_t *panel) {
  for (int64_t d = 0; d < D; d++) panel[(d / 2 * lanes + lane) * 2 + d % 2] = row[d];
}

int64_t row_bytes(int dtype, int64_t D) {
  const Layout layout = layout_of(dtype);
  if (layout > Layout::bf16) return D / form(layout).source_block * form(layout).source_bytes;
  return D * (dtype == LATENT_F8_E4M3 ? 1 : dtype == LATENT_F16 || dtype == LATENT_BF16 ? 2 : 4);
}

}  // namespace

Weight *pack(Library &on, int dtype, int rank, const int64_t *shape, const void *data, const float *scales) {
  int64_t D = shape[rank - 1], N = rank > 1 ? shape[rank - 2] : 1, matrices = 1;
  for (int i = 0; i < rank - 2; i++) matrices *= shape[i];
  Layout layout = layout_of(dtype);
  if (layout > Layout::bf16 && D % form(layout).source_block != 0) {
    on.error = "rows of " + std::to_string(D) + " are not whole blocks of " + std::to_string(form(layout).source_block);
    return nullptr;
  }
  Weight *w = new latent_weight;
  w->layout = layout, w->matrices = matrices, w->N = N, w->D = D;
  w->panel_bytes = panel_bytes(layout, D);
  w->matrix_bytes = w->panel_bytes * w->panels();
  w->data = allocate(w->matrix_bytes * matrices);
  if (!w->data) {
    on.error = "no memory for a weight of " + std::to_string(w->matrix_bytes * matrices) + " bytes";
    delete static_cast<latent_weight *>(w);
    return nullptr;
  }
  int64_t height = (N + 127) / 128, wide = (D + 127) / 128, stride = row_bytes(dtype, D);
  on.pool.run(matrices * w->panels(), [&](int64_t at) {
    int64_t m = at / w->panels(), p = at % w->panels();
    uint8_t *panel = const_cast<uint8_t *>(w->panel(m, p));
    const bool whole = (p + 1) * lanes <= N && (layout == Layout::q4_0 || layout == Layout::q8_0);
    if (!whole) memset(panel, 0, w->panel_bytes);  // the others only set bits, and lanes without a row stay zero
    for (int64_t n = p * lanes; n < N && n < (p + 1) * lanes; n++) {
      int lane = n % lanes;
      const uint8_t *row = (const uint8_t *)data + (m * N + n) * stride;
      switch (layout) {
        case Layout::bf16: put_bf16((const uint16_t *)row, D, lane, (uint16_t *)panel); break;
        case Layout::f32:
          put_f32(dtype, (const uint8_t *)data, (m * N + n) * D, D,
                  scales ? scales + (m * height + n / 128) * wide : nullptr, lane, (float *)panel);
          break;
        case Layout::q4_0: put_q4_0(row, D, lane, panel); break;
        case Layout::q8_0: put_q8_0(row, D, lane, panel); break;
        default: put_blocks(layout, row, D, lane, panel);
      }
    }
  });
  return w;
}

void unpack_row(const Weight &w, int64_t matrix, int64_t row, float *out) {
  const uint8_t *panel = w.panel(matrix, row / lanes);
  int lane = row % lanes;
  for (int64_t d = 0; d < w.D; d++) {
    switch (w.layout) {
      case Layout::f32: out[d] = ((const float *)panel)[d * lanes + lane]; break;
      case Layout::bf16: out[d] = bf16_to_f32(((const uint16_t *)panel)[(d / 2 * lanes + lane) * 2 + d % 2]); break;
      default: out[d] = value_at(w.layout, panel, d, lane);
    }
  }
}

}  // namespace cpu
