// Matrix products: y = x w^T. A task is a few panels of w against all rows of x: a strip of x stays in the first cache
// while those panels pass, and the panels in the second while the strips pass.
#include <algorithm>

#include "cpu.h"

namespace cpu {
namespace {

// The next size that kernels are compiled for.
int padded(int rows) {
  if (rows > 8) return 12;
  if (rows > 6) return 8;
  return rows > 4 ? 6 : rows > 2 ? 4 : rows;
}

constexpr size_t second_cache = 1 << 18;  // bytes of panels that a task goes through together

int64_t panels_together(const Weight &w) {
  return std::max<int64_t>(1, (int64_t)(second_cache / w.panel_bytes));
}

// Few panels a task where few rows make it short, so that no thread waits long for the last; more where they share strips.
int64_t panels_a_task(const Weight &w, int T, int threads) {
  const int64_t fair = w.panels() / threads + 1;
  return std::min<int64_t>(fair, T <= 4 ? 16 : 8);
}

constexpr int tile_rows = 16;
constexpr int tile_worth = 13;  // rows of a strip of integers; the vector kernels are as fast below
constexpr int many = 32;        // rows of integers in all: fewer do not pay for unpacking the weights

Rows kind(const Library &on, Layout layout) {
  if (layout > Layout::bf16) return Rows::integers;
  return layout == Layout::bf16 && on.k->pack_halves ? Rows::halves : Rows::floats;
}

size_t row_bytes(Rows kind, int64_t D) {
  if (kind == Rows::integers) return (size_t)(D / block) * strip_block;
  return kind == Rows::floats ? (size_t)D * 4 : (size_t)(D + 31) / 32 * 64;
}

// A strip of tiles is padded to a whole one, unless it stands alone: then the tiles of this step are that much smaller.
int padded(const Strips &x, int rows) {
  if (x.each < tile_rows || (x.kind == Rows::integers && rows < tile_worth)) return padded(rows);
  return x.exact ? rows : tile_rows;
}

}  // namespace

Strip Strips::at(int s) const {
  const int first = s * each, rows = std::min(each, T - first);
  return {data + first * row_bytes, first, rows, padded(*this, rows)};
}

bool alike(const Library &on, Layout a, Layout b) { return kind(on, a) == kind(on, b); }

Strips room_for_strips(Library &on, Layout layout, int T, int64_t D) {
  const Rows rows = kind(on, layout);
  const size_t bytes = row_bytes(rows, D);
  const bool tiles = on.k->tiles && (rows == Rows::halves || (rows == Rows::integers && T >= many));
  const int each = tiles ? tile_rows : on.k->strip;
  return {on.scratch.take<uint8_t>((size_t)(T + each) * bytes), bytes, T, each, rows, tiles && rows == Rows::halves && T < tile_rows};
}

void pack_strip(const Library &on, Layout layout, const Strips &strips, int s, const float *const *x, int64_t D) {
  const Strip strip = strips.at(s);
  const auto pack = strips.kind == Rows::integers ? on.k->pack_integers
                    : strips.kind == Rows::halves ? on.k->pack_halves
                                                  : on.k->pack_floats;
  pack(x, D, strip.rows, strip.padded, const_cast<uint8_t *>(strip.data));
}

Strips pack_strips(Library &on, Layout layout, const float *x, int T, int64_t D) {
  const Strips strips = room_for_strips(on, layout, T, D);
  each_or_here(on, strips.count(), T, [&](int64_t s) {
    pack_rows(on, layout, strips, (int)s, D, [&](int t) { return x + (int64_t)t * D; });
  });
  return strips;
}

void multiply(const Library &on, const Weight &w, int64_t matrix, const Strips &x, int64_t from, int64_t to, float *y,
              int64_t stride) {
  const int done = on.k->product ? on.k->product(w, matrix, x, from, to, y, stride) : 0;
  if (done == x.count()) return;
  const int64_t together = panels_together(w);
  for (int64_t first = from; first < to; first += together) {
    const int64_t last = std::min(to, first + together);
    for (int s = done; s < x.count(); s++) {
      const Strip strip = x.at(s);
      const int width = (int)(std::min(w.N, last * lanes) - first * lanes);
      on.k->multiply(w.layout, w.panel(matrix, first), w.panel_bytes, (int)(last - first), strip, w.D,
                     y + strip.first * stride + first * lanes, stride, width);
    }
  }
}

namespace {

// Rectangles of y for tiles, small ones: threads that share a core with others' work are several times slower. Rows of
// one group follow each other, so that a thread finds its strips in the second cache.
void many_rows(Library &on, const Strips &x, const Weight &w, int64_t matrix, float *y, int64_t stride) {
  constexpr int rows = 256;
  const int64_t panels = w.panels(), groups = std::max(1, x.T / rows);
  const int64_t each = panels * groups >= 32 * on.pool.threads() ? 4 : 2, parts = (panels + each - 1) / each;
  on.pool.run(parts * groups, [&](int64_t task) {
    const int64_t group = task / parts, from = task % parts * each, first = group * rows;
    const Strips own = x.part((int)first, group + 1 < groups ? rows : (int)(x.T - first));
    multiply(on, w, matrix, own, from, std::min(panels, from + each), y + first * stride, stride);
  });
}

}  // namespace

void linear(Library &on, const float *x, int T, const Weight &w, int64_t matrix, float *y, int64_t stride) {
  ready(on, w, matrix);
  const Strips strips = pack_strips(on, w.layout, x, T, w.D);
  if (strips.each == tile_rows && T >= many) return many_rows(on, strips, w, matrix, y, stride);
  const int64_t panels = w.panels(), each = panels_a_task(w, T, on.pool.threads());
  on.pool.run((panels + each - 1) / each, [&](int64_t part) {
    multiply(on, w, matrix, strips, part * each, std::min(panels, (part + 1) * each), y, stride);
  });
}

void head_linear(Library &on, const float *x, int T, const Weight &w, float *y) {
  const int64_t H = w.matrices;
  ready(on, w);
  std::vector<Strips> heads;
  for (int64_t h = 0; h < H; h++) heads.push_back(room_for_strips(on, w.layout, T, w.D));
  each_or_here(on, H, T * H, [&](int64_t h) {
    for (int s = 0; s < heads[h].count(); s++) {
      pack_rows(on, w.layout, heads[h], s, w.D, [&](int t) { return x + ((int64_t)t * H + h) * w.D; });
    }
  });
  const int64_t each = 8, parts = (w.panels() + each - 1) / each;
  on.pool.run(H * parts, [&](int64_t task) {
    const int64_t h = task / parts, from = task % parts * each;
    multiply(on, w, h, heads[h], from, std::min(w.panels(), from + each), y + h * w.N, H * w.N);
  });
}

}  // namespace cpu

int latent_linear(latent *on, const float *x, int T, const latent_weight *w, float *y) {
  on->scratch.reset();
  cpu::linear(*on, x, T, *w, 0, y, w->N);
  return 0;
}
