// When checkpoint rows become panels: at upload, or, where they are borrowed, a matrix at a time when it is first used.
// Values are kept bit for bit; only their order changes (packing.cc is the fast way, the plain one is here).
#include <algorithm>
#include <cstring>
#ifdef __unix__
#include <unistd.h>
#endif

#include "packing.h"

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

float element(int dtype, const uint8_t *row, int64_t d) {
  switch (dtype) {
    case LATENT_F16: return f16_to_f32(((const uint16_t *)row)[d]);
    case LATENT_F8_E4M3: return f8_to_f32(row[d]);
    default: return ((const float *)row)[d];
  }
}

void put_f32(int dtype, const uint8_t *row, int64_t D, const float *scales, int lane, float *panel) {
  for (int64_t d = 0; d < D; d++) panel[d * lanes + lane] = element(dtype, row, d) * (scales ? scales[d / 128] : 1);
}

void put_bf16(const uint16_t *row, int64_t D, int lane, uint16_t *panel) {
  for (int64_t d = 0; d < D; d++) panel[(d / 2 * lanes + lane) * 2 + d % 2] = row[d];
}

int64_t row_bytes(int dtype, int64_t D) {
  const Layout layout = layout_of(dtype);
  if (layout > Layout::bf16) return D / form(layout).source_block * form(layout).source_bytes;
  return D * (dtype == LATENT_F8_E4M3 ? 1 : dtype == LATENT_F16 || dtype == LATENT_BF16 ? 2 : 4);
}

// Up to 16 rows, one after another: the definition of a panel.
void pack_plainly(const Weight &w, int dtype, const uint8_t *const *rows, int count, const float *scales, uint8_t *panel) {
  memset(panel, 0, w.panel_bytes);  // blocks only set bits, and lanes without a row stay zero
  for (int lane = 0; lane < count; lane++) {
    switch (w.layout) {
      case Layout::bf16: put_bf16((const uint16_t *)rows[lane], w.D, lane, (uint16_t *)panel); break;
      case Layout::f32: put_f32(dtype, rows[lane], w.D, scales, lane, (float *)panel); break;
      default: put_blocks(w.layout, rows[lane], w.D, lane, panel);
    }
  }
}

const uint8_t *row_of(const Source &s, int64_t row) { return s.pieces[row / s.rows] + row % s.rows * s.stride; }

// Block scales of a row's place in its matrix, or null.
const float *scales_of(const Weight &w, const Source &s, int64_t matrix, int64_t n) {
  const int64_t height = (w.N + 127) / 128, wide = (w.D + 127) / 128;
  return s.scales.empty() ? nullptr : s.scales.data() + (matrix * height + n / 128) * wide;
}

// A copy of rows [from, to) read from their files, or null: mapped pages that nobody has touched cost several times as
// much, once as faults and once more when the system takes them back, and would count beside the panels.
const uint8_t *fetch(const Source &s, int64_t from, int64_t to) {
#ifdef __unix__
  if (s.files.empty()) return nullptr;
  thread_local std::vector<uint8_t> kept;
  if ((int64_t)kept.size() < (to - from) * s.stride) kept.resize((to - from) * s.stride);
  for (uint8_t *out = kept.data(); from < to;) {
    const int64_t piece = from / s.rows, end = std::min(to, (piece + 1) * s.rows), bytes = (end - from) * s.stride;
    if (pread(s.files[piece], out, bytes, s.offsets[piece] + from % s.rows * s.stride) != bytes) return nullptr;
    out += bytes, from = end;
  }
  return kept.data();
#else
  return nullptr;
#endif
}

// Panels [first, last) of a matrix.
void pack_panels(const Library &on, const Weight &w, int64_t matrix, int64_t first, int64_t last) {
  const Source &s = *w.source;
  const int64_t above = matrix * w.N, from = above + first * lanes, to = above + std::min(w.N, last * lanes);
  const bool plain = on.k == kernels_scalar;  // stays without vectors, to check the others
  const uint8_t *copy = fetch(s, from, to);
  for (int64_t p = first; p < last; p++) {
    const int count = (int)std::min<int64_t>(lanes, w.N - p * lanes);
    const uint8_t *rows[lanes];
    for (int i = 0; i < count; i++) {
      const int64_t row = above + p * lanes + i;
      rows[i] = copy ? copy + (row - from) * s.stride : row_of(s, row);
    }
    const float *scales = scales_of(w, s, matrix, p * lanes);
    uint8_t *panel = w.data + matrix * w.matrix_bytes + p * w.panel_bytes;
    if (!plain && count == lanes && pack_together(w.layout, s.dtype, rows, w.D, scales, panel)) continue;
    pack_plainly(w, s.dtype, rows, count, scales, panel);
  }
}

Weight *refused(Library &on, const std::string &why) {
  on.error = why;
  return nullptr;
}

}  // namespace

Weight *borrow(Library &on, int dtype, int rank, const int64_t *shape, const Pieces &pieces, const float *scales) {
  const int64_t D = shape[rank - 1], N = rank > 1 ? shape[rank - 2] : 1;
  int64_t matrices = 1;
  for (int i = 0; i < rank - 2; i++) matrices *= shape[i];
  const Layout layout = layout_of(dtype);
  if (layout > Layout::bf16 && D % form(layout).source_block != 0) {
    return refused(on, "rows of " + std::to_string(D) + " are not whole blocks of " + std::to_string(form(layout).source_block));
  }
  if (pieces.count < 1 || matrices * N % pieces.count != 0) {
    return refused(on, std::to_string(matrices * N) + " rows do not come in " + std::to_string(pieces.count) + " equal pieces");
  }
  auto w = std::make_unique<latent_weight>();
  w->layout = layout, w->matrices = matrices, w->N = N, w->D = D;
  w->panel_bytes = panel_bytes(layout, D), w->matrix_bytes = w->panel_bytes * w->panels();
  const size_t bytes = w->matrix_bytes * matrices;
  w->data = allocate(bytes);  // room in the address space; pages come as panels are written
  if (!w->data) return refused(on, "no memory for a weight of " + std::to_string(bytes) + " bytes");
  w->source = std::make_unique<Source>();
  Source &s = *w->source;
  s.dtype = dtype, s.stride = row_bytes(dtype, D), s.rows = matrices * N / pieces.count;
  for (int i = 0; i < pieces.count; i++) s.pieces.push_back((const uint8_t *)pieces.at[i]);
  if (pieces.files) {
    s.files.assign(pieces.files, pieces.files + pieces.count);
    s.offsets.assign(pieces.offsets, pieces.offsets + pieces.count);
  }
  if (scales) s.scales.assign(scales, scales + matrices * ((N + 127) / 128) * ((D + 127) / 128));
  s.packed.assign(matrices, false), s.left = matrices;
  return w.release();
}

Weight *pack(Library &on, int dtype, int rank, const int64_t *shape, const void *data, const float *scales) {
  Weight *w = borrow(on, dtype, rank, shape, {1, &data, nullptr, nullptr}, scales);
  if (w) ready(on, *w);
  return w;
}

void pack_missing(Library &on, const Weight &w, const int64_t *matrices, int64_t count) {
  Source &s = *w.source;
  std::vector<int64_t> missing;
  for (int64_t i = 0; i < count; i++) {
    if (s.packed[matrices[i]]) continue;
    s.packed[matrices[i]] = true;
    missing.push_back(matrices[i]);
  }
  constexpr size_t grain = 1 << 18;  // bytes of panels that are worth a thread's while
  const int64_t panels = w.panels(), each = std::max<int64_t>(1, grain / w.panel_bytes), parts = (panels + each - 1) / each;
  on.pool.run((int64_t)missing.size() * parts, [&](int64_t task) {
    const int64_t first = task % parts * each;
    pack_panels(on, w, missing[task / parts], first, std::min(panels, first + each));
  });
  s.left -= (int64_t)missing.size();
  if (s.left == 0) w.source.reset();
}

void ready(Library &on, const Weight &w) {
  if (!w.source) return;
  std::vector<int64_t> every(w.matrices);
  for (int64_t m = 0; m < w.matrices; m++) every[m] = m;
  pack_missing(on, w, every.data(), w.matrices);
}

namespace {

void unpack_lane(const Weight &w, const uint8_t *panel, int lane, float *out) {
  for (int64_t d = 0; d < w.D; d++) {
    switch (w.layout) {
      case Layout::f32: out[d] = ((const float *)panel)[d * lanes + lane]; break;
      case Layout::bf16: out[d] = bf16_to_f32(((const uint16_t *)panel)[(d / 2 * lanes + lane) * 2 + d % 2]); break;
      default: out[d] = value_at(w.layout, panel, d, lane);
    }
  }
}

}  // namespace

void unpack_row(const Weight &w, int64_t matrix, int64_t row, float *out) {
  if (!w.source || w.source->packed[matrix]) return unpack_lane(w, w.panel(matrix, row / lanes), row % lanes, out);
  // straight from where it lies: an embedding is looked up a row at a time, and its panels may never be needed
  std::vector<uint8_t> panel(w.panel_bytes);
  const uint8_t *from = row_of(*w.source, matrix * w.N + row);
  pack_plainly(w, w.source->dtype, &from, 1, scales_of(w, *w.source, matrix, row), panel.data());
  unpack_lane(w, panel.data(), 0, out);
}

}  // namespace cpu
