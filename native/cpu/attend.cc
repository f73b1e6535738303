// Latent attention over the paged cache, two ways. Short runs (decoding) are absorbed: queries go into the latent space
// and meet the latents themselves, which are read once for all heads. Long runs (prompts) expand keys and values of a
// stretch of the past once for all their rows, which is fewer multiplications beyond about 171 rows (docs/math.md).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu.h"

namespace cpu {
namespace {

constexpr int chunk = 256;        // positions whose scores are formed together; fixed, so sums do not depend on threads
constexpr int expand_rows = 160;  // runs from this length on expand
constexpr int stretch = 1024;     // positions expanded at a time

struct Run {
  int first, count;  // rows
  const int32_t *table;
  int length;  // positions there are after this step
};

// Cache rows [from, from + count) of a run as f32 [count][C + R].
void gather(const Library &on, const Cache &cache, int layer, const Run &run, int from, int count, float *out) {
  for (int done = 0; done < count;) {
    const int position = from + done, offset = position % cache.page_size;
    const int n = std::min(count - done, cache.page_size - offset);
    const uint8_t *row = cache.row(layer, (int64_t)run.table[position / cache.page_size] * cache.page_size + offset);
    float *to = out + done * cache.width();
    if (cache.half) on.k->widen_bf16((const uint16_t *)row, n * cache.width(), to);
    else memcpy(to, row, (size_t)n * cache.width() * 4);
    done += n;
  }
}

// Softmax pieces of one query row: the largest score, the sum of exponentials against it, and their mix of values.
struct Piece {
  float max, total;
};

// Joins piece b into piece a, values and all.
void join(Piece &a, float *mix_a, const Piece &b, const float *mix_b, int64_t D) {
  const float max = std::max(a.max, b.max);
  const float keep = a.total > 0 ? std::exp(a.max - max) : 0, take = std::exp(b.max - max);
  for (int64_t d = 0; d < D; d++) mix_a[d] = mix_a[d] * keep + mix_b[d] * take;
  a = {max, a.total * keep + b.total * take};
}

// One chunk of the past for all heads of one row, absorbed.
void absorb_chunk(const Library &on, const Cache &cache, int layer, const Run &run, const float *q, int H, int from, int count,
                  float scale, float *past, float *scores, Piece *pieces, float *mixes) {
  const int64_t C = cache.latent, W = cache.width();
  gather(on, cache, layer, run, from, count, past);
  on.k->scores(q, W, H, past, W, W, count, scores, chunk);
  for (int h = 0; h < H; h++) {
    float *s = scores + h * chunk, max = -INFINITY;
    for (int i = 0; i < count; i++) max = std::max(max, s[i] *= scale);
    float total;
    on.k->exp_sub(s, count, max, &total);
    pieces[h] = {max, total};
  }
  memset(mixes, 0, (size_t)H * C * 4);
  on.k->mix(scores, chunk, H, past, W, C, count, mixes, C);
}

// Rows of a short run: q [rows][H][C + R] -> u [rows][H][C].
void absorbed(Library &on, const Cache &cache, int layer, const Run &run, const float *q, const int32_t *positions, int H,
              float scale, float *u) {
  const int64_t C = cache.latent, W = cache.width();
  const int chunks = (run.length + chunk - 1) / chunk;
  auto *pieces = on.scratch.take<Piece>((size_t)run.count * chunks * H);
  auto *mixes = on.scratch.take<float>((size_t)run.count * chunks * H * C);
  const int workers = on.pool.threads();
  const int64_t tasks = (int64_t)run.count * chunks;
  // one scratch for each part of the work, not for each thread: a part is done by one thread at a time
  const int64_t parts = std::min<int64_t>(tasks, workers * 4);
  auto *past = on.scratch.take<float>((size_t)parts * chunk * W), *scores = on.scratch.take<float>((size_t)parts * H * chunk);
  on.pool.run(parts, [&](int64_t part) {
    for (int64_t task = part; task < tasks; task += parts) {
      const int row = (int)(task / chunks), from = (int)(task % chunks) * chunk;
      const int count = std::min(chunk, positions[run.first + row] + 1 - from);
      if (count <= 0) continue;
      absorb_chunk(on, cache, layer, run, q + (int64_t)row * H * W, H, from, count, scale, past + part * chunk * W,
                   scores + part * H * chunk, pieces + task * H, mixes + task * H * C);
    }
  });
  on.pool.run((int64_t)run.count * H, [&](int64_t at) {
    const int row = (int)(at / H), h = (int)(at % H);
    float *out = u + at * C;
    Piece all{-INFINITY, 0};
    memset(out, 0, C * 4);
    for (int c = 0; c * chunk <= positions[run.first + row]; c++) {
      const int64_t task = (int64_t)row * chunks + c;
      join(all, out, pieces[task * H + h], mixes + (task * H + h) * C, C);
    }
    for (int64_t c = 0; c < C; c++) out[c] /= all.total;
  });
}

// Expanded keys and values of one stretch: k [H][n][A + R], v [H][n][B].
void expand(Library &on, const Cache &cache, const float *past, int n, const Weight &keys, const Weight &values, float *k,
            float *v) {
  const int64_t H = keys.matrices, A = keys.N, B = values.N, C = cache.latent, R = cache.key, W = cache.width();
  auto *latents = on.scratch.take<float>((size_t)n * C);
  for (int i = 0; i < n; i++) memcpy(latents + i * C, past + i * W, C * 4);
  const Strips x_keys = pack_strips(on, keys.layout, latents, n, C);
  const Strips x_values = alike(on, keys.layout, values.layout) ? x_keys : pack_strips(on, values.layout, latents, n, C);
  on.pool.run(H, [&](int64_t h) {
    multiply(on, keys, h, x_keys, 0, keys.panels(), k + h * n * (A + R), A + R);
    for (int i = 0; i < n; i++) memcpy(k + (h * n + i) * (A + R) + A, past + i * W + C, R * 4);
    multiply(on, values, h, x_values, 0, values.panels(), v + h * n * B, B);
  });
}

// Rows of a long run: q [rows][H][A + R] -> y [rows][H][B].
void expanded(Library &on, const Cache &cache, int layer, const Run &run, const float *q, const int32_t *positions,
              const Weight &keys, const Weight &values, float scale, float *y) {
  const int64_t H = keys.matrices, A = keys.N, B = values.N, R = cache.key;
  constexpr int tile = 16;  // rows
  const int tiles = (run.count + tile - 1) / tile;
  auto *pieces = on.scratch.take<Piece>((size_t)run.count * H);
  for (int64_t i = 0; i < run.count * H; i++) pieces[i] = {-INFINITY, 0};
  auto *past = on.scratch.take<float>((size_t)stretch * cache.width());
  auto *k = on.scratch.take<float>((size_t)H * stretch * (A + R)), *v = on.scratch.take<float>((size_t)H * stretch * B);
  const int64_t tasks = H * tiles;
  auto *scratch = on.scratch.take<float>((size_t)tasks * tile * (chunk + B));
  for (int from = 0; from < run.length; from += stretch) {
    const int n = std::min(stretch, run.length - from);
    gather(on, cache, layer, run, from, n, past);
    expand(on, cache, past, n, keys, values, k, v);
    on.pool.run(tasks, [&](int64_t task) {
      const int64_t h = task % H, first = task / H * tile;
      const int rows = (int)std::min<int64_t>(tile, run.count - first);
      float *scores = scratch + task * tile * (chunk + B), *mixed = scores + tile * chunk;
      const int32_t *at = positions + run.first + first;
      for (int c = 0; c < n && from + c <= at[rows - 1]; c += chunk) {
        const int count = std::min(std::min(chunk, n - c), at[rows - 1] + 1 - from - c);
        on.k->scores(q + (first * H + h) * (A + R), H * (A + R), rows, k + (h * n + c) * (A + R), A + R, A + R, count, scores,
                     chunk);
        Piece fresh[tile];
        for (int r = 0; r < rows; r++) {
          const int own = std::min(count, at[r] + 1 - from - c);
          float *s = scores + r * chunk, max = -INFINITY, total = 0;
          for (int i = 0; i < own; i++) max = std::max(max, s[i] *= scale);
          if (own > 0) on.k->exp_sub(s, own, max, &total);
          for (int i = std::max(own, 0); i < count; i++) s[i] = 0;
          fresh[r] = {max, total};
        }
        memset(mixed, 0, (size_t)rows * B * 4);
        on.k->mix(scores, chunk, rows, v + (h * n + c) * B, B, B, count, mixed, B);
        for (int r = 0; r < rows; r++) {
          if (fresh[r].total == 0) continue;
          float *out = y + ((first + r) * H + h) * B;
          Piece &all = pieces[(first + r) * H + h];
          if (all.total == 0) memset(out, 0, B * 4);
          join(all, out, fresh[r], mixed + r * B, B);
        }
      }
    });
  }
  on.pool.run(run.count, [&](int64_t row) {
    for (int64_t h = 0; h < H; h++) {
      float *out = y + (row * H + h) * B;
      for (int64_t b = 0; b < B; b++) out[b] /= pieces[row * H + h].total;
    }
  });
}

// The two parts of a query side by side: [rows][H][a | b].
float *beside(Library &on, const float *a, int64_t A, const float *b, int64_t B, int64_t count) {
  auto *out = on.scratch.take<float>((size_t)count * (A + B));
  on.pool.run((count + 63) / 64, [&](int64_t part) {
    for (int64_t i = part * 64; i < count && i < part * 64 + 64; i++) {
      memcpy(out + i * (A + B), a + i * A, A * 4);
      memcpy(out + i * (A + B) + A, b + i * B, B * 4);
    }
  });
  return out;
}

// W^UK the way expansion wants it, [H A C] from the absorbed [H C A]: made at the first long run, kept with the weight.
const Weight &turned(Library &on, const Weight &key_up) {
  if (key_up.turned) return *key_up.turned;
  const int64_t H = key_up.matrices, C = key_up.N, A = key_up.D;
  std::vector<float> from(C * A), to(H * A * C);
  for (int64_t h = 0; h < H; h++) {
    for (int64_t c = 0; c < C; c++) unpack_row(key_up, h, c, from.data() + c * A);
    for (int64_t c = 0; c < C; c++) {
      for (int64_t a = 0; a < A; a++) to[(h * A + a) * C + c] = from[c * A + a];
    }
  }
  const int64_t shape[3] = {H, A, C};
  if (key_up.layout != Layout::bf16) return *(key_up.turned = pack(on, LATENT_F32, 3, shape, to.data(), nullptr));
  std::vector<uint16_t> upper(to.size());
  for (size_t i = 0; i < to.size(); i++) memcpy(&upper[i], (const char *)&to[i] + 2, 2);  // these are bf16 values already
  return *(key_up.turned = pack(on, LATENT_BF16, 3, shape, upper.data(), nullptr));
}

}  // namespace
}  // namespace cpu

int latent_attend(latent *on, const float *q, const float *q_rope, const latent_weight *key_up,
                  const latent_weight *value_up, latent_cache *cache, int layer, const int32_t *starts,
                  const int32_t *positions, const int32_t *tables, int runs, int table_width, float scale, float *y) {
  using namespace cpu;
  const int64_t H = key_up->matrices, A = key_up->D, B = value_up->N, C = cache->latent, R = cache->key;
  on->scratch.reset();
  ready(*on, *key_up), ready(*on, *value_up);
  for (int r = 0; r < runs; r++) {
    const int first = starts[r], count = starts[r + 1] - first;
    if (count == 0) continue;
    const Run run{first, count, tables + (int64_t)r * table_width, positions[first + count - 1] + 1};
    const float *nope = q + first * H * A, *rope = q_rope + first * H * R;
    const auto mark = on->scratch.mark();
    if (count >= expand_rows) {
      const float *both = beside(*on, nope, A, rope, R, count * H);
      expanded(*on, *cache, layer, run, both, positions, turned(*on, *key_up), *value_up, scale, y + first * H * B);
    } else {
      auto *latents = on->scratch.take<float>((size_t)count * H * C), *u = on->scratch.take<float>((size_t)count * H * C);
      head_linear(*on, nope, count, *key_up, latents);
      const float *both = beside(*on, latents, C, rope, R, count * H);
      absorbed(*on, *cache, layer, run, both, positions, (int)H, scale, u);
      head_linear(*on, u, count, *value_up, y + first * H * B);
    }
    on->scratch.rewind(mark);
  }
  return 0;
}

int latent_store(latent *on, latent_cache *cache, int layer, const int32_t *slots, int T, const float *latents,
                 const float *keys) {
  const int64_t C = cache->latent, R = cache->key;
  for (int t = 0; t < T; t++) {
    if (slots[t] < 0 || slots[t] >= (int64_t)cache->pages * cache->page_size) {
      on->error = "slot " + std::to_string(slots[t]) + " is outside the cache";
      return 1;
    }
    uint8_t *row = cache->row(layer, slots[t]);
    const float *from[2] = {latents + t * C, keys + t * R};
    const int64_t width[2] = {C, R};
    for (int part = 0, at = 0; part < 2; at += width[part++]) {
      if (!cache->half) {
        memcpy(row + at * 4, from[part], width[part] * 4);
        continue;
      }
      for (int64_t i = 0; i < width[part]; i++) {  // round to nearest, ties to even
        uint32_t bits;
        memcpy(&bits, from[part] + i, 4);
        const uint16_t upper = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
        memcpy(row + (at + i) * 2, &upper, 2);
      }
    }
  }
  return 0;
}
