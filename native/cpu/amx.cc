// Products on matrix tiles (AMX), for many rows at once. bf16 weights meet activations rounded to bf16, one row or many.
// Integer formats meet the same 8-bit activations as everywhere: a tile sums one block exactly, vectors scale the sums in
// the order of quantized_tile, so the bits are those of the vector kernels, which keep the steps of few rows.
//
// A tile is 16 rows of 64 bytes. The other operand of a product stands as [k / pair][16][pair]: what panels are.
#include <type_traits>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "tiles.h"

namespace cpu {

bool permit_amx() {
#if defined(__linux__)
  constexpr int ask = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM: for this process and its threads to come
  return syscall(SYS_arch_prctl, ask, tile_data) == 0;
#else
  return false;
#endif
}

namespace {

// R strips against P panels for some steps. Sums rest in memory between calls, which changes no bit of them. A tile is
// loaded as soon as its last product is under way, so that loads and products overlap.
template <int R, int P, bool stream>
void halves_tile(const uint8_t *const *a, int a_step, const uint8_t *const *b, int64_t steps, float *c, bool fresh) {
  constexpr bool four = R == 2 && P == 2;
  if (fresh) {
    _tile_zero(0);
    if (P == 2) _tile_zero(1);
    if (R == 2) _tile_zero(2);
    if (four) _tile_zero(3);
  } else {
    _tile_loadd(0, c, 64);
    if (P == 2) _tile_loadd(1, c + 256, 64);
    if (R == 2) _tile_loadd(2, c + 512, 64);
    if (four) _tile_loadd(3, c + 768, 64);
  }
  _tile_loadd(4, a[0], 64);
  _tile_loadd(6, b[0], 64);
  if (P == 2) _tile_loadd(7, b[1], 64);
  if (R == 2) _tile_loadd(5, a[1], 64);
  for (int64_t k = 1; k < steps; k++) {
    for (int line = 0; stream && line < tile; line += 64) __builtin_prefetch(b[0] + k * tile + (1 << 13) + line, 0, 2);
    _tile_dpbf16ps(0, 4, 6);
    if (P == 2) _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(4, a[0] + k * a_step, 64);
    if (R == 2) _tile_dpbf16ps(2, 5, 6);
    _tile_loadd(6, b[0] + k * tile, 64);
    if (four) _tile_dpbf16ps(3, 5, 7);
    if (P == 2) _tile_loadd(7, b[1] + k * tile, 64);
    if (R == 2) _tile_loadd(5, a[1] + k * a_step, 64);
  }
  _tile_dpbf16ps(0, 4, 6);
  if (P == 2) _tile_dpbf16ps(1, 4, 7);
  if (R == 2) _tile_dpbf16ps(2, 5, 6);
  if (four) _tile_dpbf16ps(3, 5, 7);
  _tile_stored(0, c, 64);
  if (P == 2) _tile_stored(1, c + 256, 64);
  if (R == 2) _tile_stored(2, c + 512, 64);
  if (four) _tile_stored(3, c + 768, 64);
}

// Steps [from, to) of up to two strips and two panels; the last step of a panel may be a copy of its own.
struct Stretch {
  const uint8_t *a[2], *b[2], *tails[2];
  int a_step, strips, panels;
  bool stream;  // weights pass once: they are asked for ahead
};

void halves_stretch(const Stretch &at, int64_t from, int64_t to, int64_t whole, float *c) {
  const auto run = at.strips == 2  ? (at.panels == 2 ? halves_tile<2, 2, false> : halves_tile<2, 1, false>)
                   : at.panels == 1 ? (at.stream ? halves_tile<1, 1, true> : halves_tile<1, 1, false>)
                                    : halves_tile<1, 2, false>;
  const uint8_t *a[2], *b[2];
  for (int i = 0; i < 2; i++) a[i] = at.a[i] + from * at.a_step, b[i] = at.b[i] + from * tile;
  const int64_t steps = std::min(to, whole) - from;
  if (steps > 0) run(a, at.a_step, b, steps, c, from == 0);
  if (to <= whole) return;
  for (int i = 0; i < 2; i++) a[i] = at.a[i] + whole * at.a_step;
  run(a, at.a_step, at.tails, 1, c, whole == 0);
}

void copy_tails(const Part &part, int64_t whole, uint8_t (*tails)[tile]) {
  const int64_t left = (part.w.D % step + 1) / 2 * lanes * 4;
  for (int64_t p = part.p0; p < part.p1; p++) {
    memset(tails[p - part.p0], 0, tile);
    memcpy(tails[p - part.p0], part.w.panel(part.matrix, p) + whole * tile, left);
  }
  written();
}

// Tile loads wait for memory one after another; prefetches do not.
void ask(const uint8_t *panel, int64_t from, int64_t to) {
  for (const uint8_t *at = panel + from * tile; at < panel + to * tile; at += 64) __builtin_prefetch(at, 0, 2);
}

void halves_part(const Part &part, Room &room) {
  const int64_t D = part.w.D, whole = D / step, steps = (D + step - 1) / step;
  const int strips = part.s1 - part.s0, a_step = part.x.at(part.s0).padded * 64;
  const int64_t together = strips <= 2 ? steps : steps_together;
  const int wide = strips == 1 ? 1 : 2;  // panels at a time: a lone strip reads weights in the order they lie
  if (whole < steps) copy_tails(part, whole, room.tails);
  for (int64_t from = 0; from < steps; from += together) {
    const int64_t to = std::min(steps, from + together);
    for (int64_t p = part.p0; strips > 2 && p < part.p1; p++) ask(part.w.panel(part.matrix, p), from, std::min(to, whole));
    for (int64_t p = part.p0; p < part.p1; p += wide) {
      for (int s = part.s0; s < part.s1; s += 2) {
        Stretch at{};
        at.a_step = a_step, at.stream = strips == 1;
        at.strips = std::min(2, part.s1 - s), at.panels = (int)std::min<int64_t>(wide, part.p1 - p);
        for (int i = 0; i < 2; i++) {
          const int64_t panel = p + i % at.panels;
          at.a[i] = part.x.at(s + i % at.strips).data;
          at.b[i] = part.w.panel(part.matrix, panel), at.tails[i] = room.tails[panel - part.p0];
        }
        float *sums = room.sums + ((p - part.p0) * strips_together + (s - part.s0) * wide) * lanes * lanes;
        halves_stretch(at, from, to, whole, sums);
        if (to < steps) continue;
        for (int i = 0; i < at.strips * 2; i++) {
          if (i % 2 < at.panels) deliver(part, s + i / 2, p + i % 2, sums + i * lanes * lanes);
        }
      }
    }
  }
}

int halves_product(const Weight &w, int64_t matrix, const Strips &x, int64_t from, int64_t to, float *y, int64_t stride) {
  const int rows = x.at(0).padded;
  Shapes shapes;
  for (int i : {0, 1, 2, 3, 4, 5}) shapes.set(i, rows, 64);
  for (int i : {6, 7}) shapes.set(i, 16, 64);
  const Tiles tiles(shapes);
  for (int s = 0; s < x.count(); s += strips_together) {
    for (int64_t p = from; p < to; p += halves_together) {
      halves_part({w, matrix, x, s, std::min(x.count(), s + strips_together), p, std::min(to, p + halves_together), y, stride},
                  own_room());
    }
  }
  return x.count();
}

// [D / 32][n][32] of bf16, zeros beyond D and beyond the rows.
void pack_halves(const float *const *x, int64_t D, int rows, int n, uint8_t *strip) {
  for (int64_t d = 0; d < D; d += step, strip += n * 64) {
    if (rows < n) memset(strip + rows * 64, 0, (n - rows) * 64);
    for (int t = 0; t < rows; t++) {
      f32x16 low, high;
      if (d + step <= D) low = load<f32x16>(x[t] + d), high = load<f32x16>(x[t] + d + 16);
      else {
        low = partial(x[t] + d, std::min<int64_t>(16, D - d));
        high = D - d > 16 ? partial(x[t] + d + 16, D - d - 16) : f32x16{};
      }
      const __m512bh pair = _mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
      memcpy(strip + t * 64, &pair, 64);
    }
  }
}

template <Layout layout>
void unpack(const uint8_t *panel, int64_t from, int count, Block *to) {
  constexpr Form f = form(layout);
  constexpr int subs = block / f.sub;
  for (int64_t b = from; b < from + count; b++, to++) {
    const uint8_t *at = panel + block_at(f, b), *scales = at + code_bytes(f) + top_bytes(f);
    const uint8_t *head = panel + block_at(f, b / 8 * 8) - head_bytes(f);
    for (int line = 0; line < block_bytes(f); line += 64) __builtin_prefetch(at + blocks_together * block_bytes(f) + line, 0, 3);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) store(to->codes + g * 64, group_of<layout>(at, g) - (uint8_t)f.zero);
    for (int s = 0; s < subs; s++) {
      to->scale[s] = f.super ? halves(head) * signed_bytes(scales + s * lanes) : halves(scales);
      if (!f.min) continue;
      to->min[s] = f.super ? -halves(head + 32) * plain_bytes(scales + (subs + s) * lanes) : halves(scales + lanes * 2);
    }
  }
}

// Two blocks (or halves of one) of 16 rows of x and of w: 256 sums of integers each, in tiles 0 and 1, or 2 and 3.
template <int pair>
inline void start(const int8_t *const *values, const int8_t *const *codes) {
  _tile_loadd(4, values[0], block);
  _tile_loadd(6, codes[0], 64);
  _tile_loadd(5, values[1], block);
  _tile_loadd(7, codes[1], 64);
  if (pair == 0) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 5, 7);
  } else {
    _tile_zero(2);
    _tile_zero(3);
    _tile_dpbssd(2, 4, 6);
    _tile_dpbssd(3, 5, 7);
  }
}

template <int pair>
inline void spill(int32_t (*sums)[lanes * lanes]) {
  if (pair == 0) _tile_stored(0, sums[0], 64);
  if (pair == 0) _tile_stored(1, sums[1], 64);
  if (pair == 1) _tile_stored(2, sums[2], 64);
  if (pair == 1) _tile_stored(3, sums[3], 64);
}

// What tiles summed of one unit (a block, or half of one), scaled into the running sums as quantized_tile of kernels.cc
// does it, operation for operation.
template <Layout layout>
inline __attribute__((always_inline)) void finish(const Block &w, const uint8_t *x, int sub, const int32_t *spilled, f32x16 *out) {
  constexpr Form f = form(layout);
  constexpr int n = lanes;
  const auto *xs = (const float *)(x + n * block), *weighted = xs + n;
  const auto *half = (const int32_t *)(weighted + n) + n + sub * n;
  const f32x16 scale = w.scale[sub];
#pragma GCC unroll 16
  for (int t = 0; t < n; t++) out[t] += to_float(load<i32x16>(spilled + t * lanes)) * (scale * xs[t]);
  if (!f.min) return;
  const f32x16 min = w.min[sub];
#pragma GCC unroll 16
  for (int t = 0; t < n; t++) out[t] += min * (f.sub < block ? xs[t] * (float)-half[t] : weighted[t]);
}

// A pair of units is multiplied while the one before it is stored and the one before that is scaled.
template <Layout layout>
void integer_tile(const Block *w, const uint8_t *strip, int blocks, float *sums, bool fresh) {
  constexpr int sub = form(layout).sub, subs = block / sub;
  const int units = blocks * subs;
  alignas(64) int32_t spilled[4][lanes * lanes];
  f32x16 out[lanes];
#pragma GCC unroll 16
  for (int t = 0; t < lanes; t++) out[t] = fresh ? f32x16{} : load<f32x16>(sums + t * lanes);
  const auto begin = [&](int u, auto pair) __attribute__((always_inline)) {
    if (u >= units) return;
    const int8_t *values[2], *codes[2];
    for (int i = 0; i < 2; i++) {
      const int at = std::min(u + i, units - 1);  // a pair of one: its second result is not looked at
      values[i] = (const int8_t *)strip + at / subs * lanes * strip_block + at % subs * sub;
      codes[i] = w[at / subs].codes + at % subs * sub * lanes;
    }
    start<pair>(values, codes);
  };
  const auto end = [&](int u, auto pair) __attribute__((always_inline)) {
    for (int i = 0; i < 2; i++) {
      if (u + i >= units) return;
      const int at = (u + i) / subs;
      finish<layout>(w[at], strip + at * lanes * strip_block, (u + i) % subs, spilled[pair * 2 + i], out);
    }
  };
  constexpr std::integral_constant<int, 0> even{};
  constexpr std::integral_constant<int, 1> odd{};
  begin(0, even);
  begin(2, odd);
  spill<even>(spilled);
  for (int u = 0; u < units; u += 4) {
    begin(u + 4, even);
    spill<odd>(spilled);
    end(u, even);
    begin(u + 6, odd);
    spill<even>(spilled);
    end(u + 2, odd);
  }
#pragma GCC unroll 16
  for (int t = 0; t < lanes; t++) store(sums + t * lanes, out[t]);
}

template <Layout layout>
void integers_part(const Part &part, Room &room) {
  const int64_t blocks = part.w.D / block;
  for (int64_t from = 0; from < blocks; from += blocks_together) {
    const int count = (int)std::min<int64_t>(blocks_together, blocks - from);
    for (int64_t p = part.p0; p < part.p1; p++) {
      unpack<layout>(part.w.panel(part.matrix, p), from, count, room.blocks[p - part.p0]);
    }
    written();
    for (int s = part.s0; s < part.s1; s++) {
      const uint8_t *strip = part.x.at(s).data + from * lanes * strip_block;
      for (int64_t p = part.p0; p < part.p1; p++) {
        float *sums = room.sums + ((p - part.p0) * strips_together + s - part.s0) * lanes * lanes;
        integer_tile<layout>(room.blocks[p - part.p0], strip, count, sums, from == 0);
        if (from + count == blocks) deliver(part, s, p, sums);
      }
    }
  }
}

void integer_part(const Part &part, Room &room) {
  switch (part.w.layout) {
#define LATENT_CASE(name) \
  case Layout::name: return integers_part<Layout::name>(part, room);
    LATENT_CASE(q8_0) LATENT_CASE(q4_0) LATENT_CASE(q4_1) LATENT_CASE(q5_0) LATENT_CASE(q5_1) LATENT_CASE(iq4_nl)
    LATENT_CASE(q2_k) LATENT_CASE(q3_k) LATENT_CASE(q4_k) LATENT_CASE(q5_k) LATENT_CASE(q6_k) LATENT_CASE(iq4_xs)
#undef LATENT_CASE
    default: return;
  }
}

// All strips but a last one of few rows; none where they are strips for vectors.
int integer_product(const Weight &w, int64_t matrix, const Strips &x, int64_t from, int64_t to, float *y, int64_t stride) {
  const int count = x.count(), strips = x.at(count - 1).padded == lanes ? count : count - 1;
  if (x.each < lanes || strips == 0) return 0;
  const int sub = form(w.layout).sub;
  Shapes shapes;
  for (int i : {0, 1, 2, 3}) shapes.set(i, 16, 64);
  for (int i : {4, 5}) shapes.set(i, 16, sub);
  for (int i : {6, 7}) shapes.set(i, sub / 4, 64);
  const Tiles tiles(shapes);
  for (int s = 0; s < strips; s += strips_together) {
    for (int64_t p = from; p < to; p += integers_together) {
      integer_part({w, matrix, x, s, std::min(strips, s + strips_together), p, std::min(to, p + integers_together), y, stride},
                   own_room());
    }
  }
  return strips;
}

int product(const Weight &w, int64_t matrix, const Strips &x, int64_t from, int64_t to, float *y, int64_t stride) {
  if (x.kind == Rows::integers) return integer_product(w, matrix, x, from, to, y, stride);
  return x.kind == Rows::halves ? halves_product(w, matrix, x, from, to, y, stride) : 0;
}

}  // namespace

// Not a constant: what fills it at load time would be compiled for machines that this may not be.
const Kernels *kernels_amx() {
  static Kernels table = *kernels_avx512;
  table.name = "amx", table.tiles = true, table.pack_halves = pack_halves, table.product = product;
  return &table;
}

}  // namespace cpu
