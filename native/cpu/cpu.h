// What the files of the CPU library share: the thread pool, weights in panels, quantized rows, and the table of kernels
// that each instruction set fills.
//
// A panel holds 16 rows of a matrix side by side, so that one vector register holds one element (or one group of four)
// of all 16: the same layout serves a single row of x (decoding, bound by memory) and many (prompts, bound by arithmetic).
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../ops.h"
#include "formats.h"

namespace cpu {

// Where the rows of a weight are before they are in panels.
struct Source {
  int dtype;
  int64_t stride;                       // bytes of a row
  std::vector<const uint8_t *> pieces;  // each of as many rows
  int64_t rows;                         // of a piece
  std::vector<int> files;               // an open descriptor for each piece, or none at all
  std::vector<int64_t> offsets;         // and where in its file the piece is
  std::vector<float> scales;            // of fp8 blocks
  std::vector<bool> packed;             // each matrix
  int64_t left;                         // matrices to pack
};

struct Weight {
  Layout layout;
  int64_t matrices, N, D;  // leading dimensions folded into `matrices`
  size_t panel_bytes, matrix_bytes;
  uint8_t *data = nullptr;
  mutable std::unique_ptr<Source> source;  // null once every matrix is in panels
  mutable Weight *turned = nullptr;  // its matrices transposed, once somebody needed them
  const uint8_t *panel(int64_t matrix, int64_t p) const { return data + matrix * matrix_bytes + p * panel_bytes; }
  int64_t panels() const { return (N + lanes - 1) / lanes; }
  bool quantized() const { return layout > Layout::bf16; }
};

// Panels of f32 are [D][16], of bf16 [D/2][16][2]; the integer formats are in formats.h.

// Rows of activations as the kernels read them, in strips of a few (6 where there are 32 registers, else 4; 16 where
// there are tiles) whose numbers stand side by side: one address serves all of them. A last strip of odd length is padded
// with zeros. What is in a strip of n depends on the layout of the weights and on what the kernels have:
//   integers  blocks of values i8 [n][32], scales f32 [n], scale * total f32 [n], -total i32 [n], -total of each half
//             i32 [2][n]
//   floats    f32 [D][n]
//   halves    bf16 weights where activations are rounded to bf16: [D/2][n][2], for tiles [D/32][n][32]
enum class Rows { integers, floats, halves };
constexpr int strip_most = 16;
constexpr int strip_block = block + 5 * 4;  // bytes of a block a row

struct Strip {
  const uint8_t *data;
  int first, rows, padded;
};

struct Strips {
  const uint8_t *data;
  size_t row_bytes;
  int T, each;  // rows in all and of a full strip
  Rows kind;
  bool exact;  // tiles of halves: a lone strip, not padded
  int count() const { return (T + each - 1) / each; }
  Strip at(int s) const;
  // rows [first, first + rows), whole strips but for the last
  Strips part(int first, int rows) const { return {data + first * row_bytes, row_bytes, rows, each, kind, exact}; }
};

// One instruction set's kernels. Each is a pure function of its arguments and touches only what it is told to.
struct Kernels {
  const char *name;
  int strip;  // rows of a full strip
  bool tiles;  // strips of integers and halves are of 16 rows
  // y[t * stride + lane] for the rows of a strip and the first `width` lanes of panels that lie `apart` bytes from each other
  void (*multiply)(Layout layout, const uint8_t *panel, size_t apart, int panels, const Strip &strip, int64_t D, float *y,
                   int64_t stride, int width);
  // rows x[0] .. x[rows - 1] as a strip of n
  void (*pack_integers)(const float *const *x, int64_t D, int rows, int n, uint8_t *strip);
  void (*pack_floats)(const float *const *x, int64_t D, int rows, int n, uint8_t *strip);
  void (*pack_halves)(const float *const *x, int64_t D, int rows, int n, uint8_t *strip);  // null: bf16 weights take floats
  // Panels [from, to) of a matrix against many strips at once; how many of them it did, from the first. Null: none.
  int (*product)(const Weight &w, int64_t matrix, const Strips &x, int64_t from, int64_t to, float *y, int64_t stride);
  void (*rms_norm)(const float *x, int64_t D, const float *gain, float eps, float *y);        // one row
  void (*swiglu)(const float *gate, const float *up, int64_t count, float *y);
  void (*add)(float *x, const float *y, int64_t count);
};

extern const Kernels *const kernels_scalar, *const kernels_avx2, *const kernels_avx512, *const kernels_avx512bf16;
const Kernels *kernels_amx();
bool permit_amx();  // asks the system for this process's tiles; false where it refuses

// The largest score of a query so far, and the sum of exponentials against it.
struct Piece {
  float max, total;
};

// The same for attention. A number never depends on how many rows the call has: each is formed by itself, in order.
struct AttentionKernels {
  // s[j * s_stride + i] = q[j] . k[i], for `queries` rows of q and `count` rows of k, `D` wide
  void (*scores)(const float *q, int64_t q_stride, int queries, const float *k, int64_t k_stride, int64_t D, int count,
                 float *s, int64_t s_stride);
  // One query's next scores: s = exp(scale * s - max) with the largest so far. Returns what earlier sums are worth now.
  float (*soften)(float *s, int count, float scale, Piece *so_far);
  // o[j] += sum over i < count of p[j * p_stride + i] * v[i], `D` wide; p is 0 beyond a row's own count
  void (*mix)(const float *p, int64_t p_stride, int queries, const float *v, int64_t v_stride, int64_t D, int count,
              float *o, int64_t o_stride);
  void (*shrink)(float *o, int64_t D, float factor);              // o *= factor
  void (*join)(float *o, float keep, const float *a, float take, int64_t D);  // o = o * keep + a * take
  void (*widen_bf16)(const uint8_t *from, int64_t count, float *to);
  void (*widen_codes)(const int8_t *codes, const uint8_t *scales, int64_t count, float *to);  // a bf16 scale a block
};

extern const AttentionKernels *const attention_scalar, *const attention_avx2, *const attention_avx512;

// Threads that run a body once for each index in [0, count): index i always does the same work, whichever thread has it,
// so results do not depend on the number of threads.
class Pool {
 public:
  Pool(int threads, bool pin);
  ~Pool();
  int threads() const { return count_; }
  void run(int64_t count, const std::function<void(int64_t)> &body);

 private:
  struct State;
  State *state_;
  int count_;
};

// Memory that an operation needs while it runs, kept between calls.
class Scratch {
 public:
  ~Scratch();
  void *take(size_t bytes);  // 64-byte aligned, valid until reset
  template <class Item>
  Item *take(size_t count) { return static_cast<Item *>(take(count * sizeof(Item))); }
  void reset() { rewind({0, 0}); }
  struct Mark { size_t piece, used; };
  Mark mark() const { return {piece_, used_}; }
  void rewind(Mark to) { piece_ = to.piece, used_ = to.used; }

 private:
  struct Piece { uint8_t *memory; size_t size; };
  std::vector<Piece> pieces_;
  size_t piece_ = 0, used_ = 0;
};

// cache.cc: a row is one token's latent and rope key, in one of three formats (src/backend/latents.ts):
//   f32  [latent C | key R]      bf16  [latent C | key R]      q8  [key R bf16 | scales bf16 | codes C]
constexpr int scaled = 64;  // codes that share a scale

struct Library;
struct Cache {
  int layers, pages, page_size, latent, key, format;
  uint8_t *data = nullptr;
  int64_t width() const { return latent + key; }
  int64_t scales() const { return (latent + scaled - 1) / scaled; }
  size_t row_bytes() const {
    if (format == LATENT_CACHE_Q8) return (2 * (key + scales()) + latent + 1) / 2 * 2;
    return width() * (format == LATENT_CACHE_BF16 ? 2 : 4);
  }
  uint8_t *row(int layer, int64_t slot) const {
    return data + ((int64_t)layer * pages * page_size + slot) * row_bytes();
  }
  // Positions [from, from + count) of the sequence whose pages `table` lists, as f32.
  void read(const AttentionKernels &k, int layer, const int32_t *table, int from, int count, float *latents,
            int64_t latent_stride, float *keys, int64_t key_stride) const;
};

// cos and sin of position * frequency, kept for every position met so far.
struct RopeTable {
  std::vector<double> frequencies;
  float factor = 0;
  std::vector<float> values;  // [position][R / 2][cos, sin]
};

struct Library {
  Library(int threads, bool pin) : pool(threads, pin) {}
  Pool pool;
  const Kernels *k = nullptr;
  const AttentionKernels *attention = nullptr;
  Scratch scratch;
  RopeTable rope;
  std::string error, description;
};

uint8_t *allocate(size_t bytes);  // 64-byte aligned, or null
void release(void *memory);

// weights.cc
Weight *pack(Library &on, int dtype, int rank, const int64_t *shape, const void *data, const float *scales);
// A weight that is packed on use: pieces of as many rows each, which stay where they are until it is released.
struct Pieces {
  int count;
  const void *const *at;
  const int *files;  // null where the pieces are no file's
  const int64_t *offsets;
};
Weight *borrow(Library &on, int dtype, int rank, const int64_t *shape, const Pieces &pieces, const float *scales);
// Packs those of the listed matrices that are not, in one round of the pool. To be called before a panel is read.
void pack_missing(Library &on, const Weight &w, const int64_t *matrices, int64_t count);
inline void ready(Library &on, const Weight &w, const int64_t *matrices, int64_t count) {
  if (w.source) pack_missing(on, w, matrices, count);
}
inline void ready(Library &on, const Weight &w, int64_t matrix) { ready(on, w, &matrix, 1); }
void ready(Library &on, const Weight &w);  // all of them
void unpack_row(const Weight &w, int64_t matrix, int64_t row, float *out);

// Runs the body for each index, on this thread alone where so few rows are quicker packed than handed out.
template <class Body>
void each_or_here(Library &on, int64_t count, int64_t rows, const Body &body) {
  if (rows > 16) return on.pool.run(count, body);
  for (int64_t i = 0; i < count; i++) body(i);
}

// linear.cc
bool alike(const Library &on, Layout a, Layout b);  // whether they read the same strips
Strips room_for_strips(Library &on, Layout layout, int T, int64_t D);
void pack_strip(const Library &on, Layout layout, const Strips &strips, int s, const float *const *x, int64_t D);
// Packs strip s; `row(t)` is where row t of all strips' rows begins.
template <class Row>
void pack_rows(const Library &on, Layout layout, const Strips &strips, int s, int64_t D, const Row &row) {
  const float *rows[strip_most];
  const Strip strip = strips.at(s);
  for (int t = 0; t < strip.rows; t++) rows[t] = row(strip.first + t);
  pack_strip(on, layout, strips, s, rows, D);
}
Strips pack_strips(Library &on, Layout layout, const float *x, int T, int64_t D);
// Panels [from, to) of one matrix against all strips: y[t][n]
void multiply(const Library &on, const Weight &w, int64_t matrix, const Strips &x, int64_t from, int64_t to, float *y,
              int64_t stride);
void linear(Library &on, const float *x, int T, const Weight &w, int64_t matrix, float *y, int64_t stride);
// Each head its own matrix: [T H D] -> [T H N]
void head_linear(Library &on, const float *x, int T, const Weight &w, float *y);

}  // namespace cpu

struct latent : cpu::Library {
  using cpu::Library::Library;
};
struct latent_weight : cpu::Weight {};
struct latent_cache : cpu::Cache {};
