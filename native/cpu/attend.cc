// Latent attention over the paged cache, two ways. Short runs (decoding) are absorbed: queries go into the latent space
// and meet the latents themselves, which are read once for all heads. Long runs (prompts) expand keys and values of a
// stretch of the past once for all their rows, which is fewer multiplications (docs/math.md says from where on).
//
// Sums are formed over blocks and spans that begin at fixed positions of the sequence, so a row's result depends neither
// on its neighbours in the step nor on the threads.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "cpu.h"

namespace cpu {
namespace {

constexpr int block = 64;     // positions whose scores are formed together: rows of 2.3 kB, so they stay in the second cache
constexpr int span = 256;     // positions of one task of the absorbed form
constexpr int stretch = 512;  // positions expanded at a time: a head's keys and values stay in the second cache
constexpr int tile = 32;      // rows of one task of the expanded form
constexpr int together = 64;  // queries of one task of the absorbed form, where a run has as many
constexpr size_t wave = 64 << 20;  // bytes of unfinished sums at a time

// What a call is about, for everything below.
struct Call {
  Library &on;
  const Cache &cache;
  int layer;
  const int32_t *positions;
  float scale;
};

// Run of one run.
struct Run {
  int first, count;
  const int32_t *table;
};

// Hands tasks to threads one by one; `part` is the thread's place for scratch.
template <class Body>
void share(Library &on, int64_t tasks, const Body &body) {
  std::atomic<int64_t> next{0};
  on.pool.run(std::min<int64_t>(tasks, on.pool.threads()), [&](int64_t part) {
    for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) body(part, task);
  });
}

// Scores of `heads` queries of one row, of which the row sees `own` of `count`, become shares; sums so far shrink to match.
void soften_row(const AttentionKernels &k, float *scores, int heads, int own, int count, float scale, Piece *pieces, float *mixes,
                int64_t stride, int64_t D) {
  for (int h = 0; h < heads; h++) {
    float *s = scores + h * block;
    if (own > 0) {
      const float keep = k.soften(s, own, scale, pieces + h);
      if (keep != 1) k.shrink(mixes + h * stride, D, keep);
    }
    for (int i = std::max(own, 0); i < count; i++) s[i] = 0;
  }
}

// Absorbed rows that one task takes together, and where the sums of their spans begin: [span][row][head].
struct Group {
  Run rows;
  int64_t at;
};

struct Absorbed {
  const Call &call;
  int H;
  const float *q;  // [row][H][C + R], from the first row of the segment on
  int origin;      // that row
  Piece *pieces;
  float *mixes;

  int length(const Group &g) const { return call.positions[g.rows.first + g.rows.count - 1] + 1; }

  // One span of the past for all heads of a group's rows. `past` and `scores` are room to work.
  void mix_span(const Group &g, int index, float *past, float *scores) const {
    const AttentionKernels &k = *call.on.attention;
    const int64_t C = call.cache.latent, W = call.cache.width(), at = g.at + (int64_t)index * g.rows.count * H;
    const int queries = g.rows.count * H, end = std::min((index + 1) * span, length(g));
    std::fill(pieces + at, pieces + at + queries, Piece{-INFINITY, 0});
    memset(mixes + at * C, 0, queries * C * 4);
    for (int from = index * span; from < end; from += block) {
      const int n = std::min(block, end - from);
      call.cache.read(k, call.layer, g.rows.table, from, n, past, W, past + C, W);
      k.scores(q + (g.rows.first - origin) * H * W, W, queries, past, W, W, n, scores, block);
      for (int r = 0; r < g.rows.count; r++) {
        const int own = std::min(n, call.positions[g.rows.first + r] + 1 - from);
        const int64_t row = at + r * H;
        soften_row(k, scores + r * H * block, H, own, n, call.scale, pieces + row, mixes + row * C, C, C);
      }
      k.mix(scores, block, queries, past, W, C, n, mixes + at * C, C);
    }
  }

  // The spans of one row and head, joined in order.
  void join_spans(const Group &g, int r, int h, float *out) const {
    const AttentionKernels &k = *call.on.attention;
    const int64_t C = call.cache.latent;
    Piece all{-INFINITY, 0};
    memset(out, 0, C * 4);
    for (int i = 0; i * span <= call.positions[g.rows.first + r]; i++) {
      const int64_t at = g.at + ((int64_t)i * g.rows.count + r) * H + h;
      const Piece &next = pieces[at];
      const float max = std::max(all.max, next.max);
      const float keep = all.total > 0 ? std::exp(all.max - max) : 0, take = std::exp(next.max - max);
      k.join(out, keep, mixes + at * C, take, C);
      all = {max, all.total * keep + next.total * take};
    }
    k.shrink(out, C, 1 / all.total);
  }
};

// Groups of rows, all at once: every thread works on whatever run has spans left. u [row][H][C]
void absorb(const Call &call, int H, const float *q, int origin, const std::vector<Group> &groups, float *u) {
  Library &on = call.on;
  const int64_t C = call.cache.latent, W = call.cache.width();
  struct Task { int group, index; };
  std::vector<Task> tasks, rows;
  int most = 0;
  int64_t sums = 0;
  Absorbed work{call, H, q, origin, nullptr, nullptr};
  for (int g = 0; g < (int)groups.size(); g++) {
    const int spans = (work.length(groups[g]) + span - 1) / span;
    for (int i = 0; i < spans; i++) tasks.push_back({g, i});
    for (int r = 0; r < groups[g].rows.count; r++) rows.push_back({g, r});
    sums += (int64_t)spans * groups[g].rows.count * H;
    most = std::max(most, groups[g].rows.count * H);
  }
  work.pieces = on.scratch.take<Piece>((size_t)sums);
  work.mixes = on.scratch.take<float>((size_t)sums * C);
  auto *past = on.scratch.take<float>((size_t)on.pool.threads() * block * W);
  auto *scores = on.scratch.take<float>((size_t)on.pool.threads() * block * most);
  share(on, (int64_t)tasks.size(), [&](int64_t part, int64_t i) {
    work.mix_span(groups[tasks[i].group], tasks[i].index, past + part * block * W, scores + part * block * most);
  });
  share(on, (int64_t)rows.size() * H, [&](int64_t, int64_t i) {
    const auto [g, r] = rows[i / H];
    work.join_spans(groups[g], r, (int)(i % H), u + ((groups[g].rows.first + r - origin) * H + i % H) * C);
  });
}

// Neighbouring short runs: q [row][H][C + R] -> u [row][H][C], as many groups at a time as `wave` has room for.
void absorbed(const Call &call, int H, const float *q, const std::vector<Run> &runs, float *u) {
  const int most = std::max(1, together / H);
  const int64_t C = call.cache.latent;
  std::vector<Group> groups;
  int64_t sums = 0;
  const auto mark = call.on.scratch.mark();
  const auto flush = [&] {
    absorb(call, H, q, runs[0].first, groups, u);
    call.on.scratch.rewind(mark);
    groups.clear();
    sums = 0;
  };
  for (const Run &run : runs) {
    for (int done = 0; done < run.count; done += most) {
      const Run rows{run.first + done, std::min(most, run.count - done), run.table};
      const int length = call.positions[rows.first + rows.count - 1] + 1;
      const int64_t own = (int64_t)((length + span - 1) / span) * rows.count * H;
      if (!groups.empty() && (size_t)(sums + own) * C * 4 > wave) flush();
      groups.push_back({rows, sums});
      sums += own;
    }
  }
  flush();
}

// Keys and values of one stretch of the past, for every head.
struct Expanded {
  const Call &call;
  const Weight &up_keys, &up_values;
  float *keys, *values;       // [H][stretch][A + R], [H][stretch][B]
  float *latents, *rotated;   // [stretch][C], [stretch][R]

  Expanded(const Call &c, const Weight &k, const Weight &v) : call(c), up_keys(k), up_values(v) {
    const int64_t H = k.matrices, A = k.N, B = v.N, C = call.cache.latent, R = call.cache.key;
    Scratch &scratch = call.on.scratch;
    keys = scratch.take<float>((size_t)H * stretch * (A + R)), values = scratch.take<float>((size_t)H * stretch * B);
    latents = scratch.take<float>((size_t)stretch * C), rotated = scratch.take<float>((size_t)stretch * R);
  }

  void fill(const int32_t *table, int from, int count) {
    const int64_t H = up_keys.matrices, A = up_keys.N, B = up_values.N, C = call.cache.latent, R = call.cache.key;
    Library &on = call.on;
    on.pool.run((count + block - 1) / block, [&](int64_t part) {
      const int first = (int)part * block, n = std::min(block, count - first);
      call.cache.read(*on.attention, call.layer, table, from + first, n, latents + first * C, C, rotated + first * R, R);
    });
    const auto mark = on.scratch.mark();
    const Strips x_keys = pack_strips(on, up_keys.layout, latents, count, C);
    const Strips x_values = alike(on, up_keys.layout, up_values.layout) ? x_keys : pack_strips(on, up_values.layout, latents, count, C);
    constexpr int each = 144;  // positions, whole strips, that stay in the second cache while all of a head's rows pass
    const int parts = (count + each - 1) / each;
    share(on, H * parts, [&](int64_t, int64_t task) {
      const int64_t h = task / parts, first = task % parts * each;
      const int n = (int)std::min<int64_t>(each, count - first);
      float *k = keys + (h * stretch + first) * (A + R);
      multiply(on, up_keys, h, x_keys.part((int)first, n), 0, up_keys.panels(), k, A + R);
      for (int i = 0; i < n; i++) memcpy(k + i * (A + R) + A, rotated + (first + i) * R, R * 4);
      multiply(on, up_values, h, x_values.part((int)first, n), 0, up_values.panels(), values + (h * stretch + first) * B, B);
    });
    on.scratch.rewind(mark);
  }
};

// One head of a tile of rows over one stretch [from, from + n): q [rows][H][A + R], y [rows][H][B] unfinished.
void meet(const Expanded &past, int64_t h, const Run &rows, const float *q, int from, int n, float *scores, float *own_q,
          Piece *pieces, float *y) {
  const Call &call = past.call;
  const AttentionKernels &k = *call.on.attention;
  const int64_t H = past.up_keys.matrices, W = past.up_keys.N + call.cache.key, B = past.up_values.N;
  const int32_t *at = call.positions + rows.first;
  const int end = std::min(n, at[rows.count - 1] + 1 - from);
  if (end <= 0) return;
  // side by side: rows a power of two apart would push each other out of the first cache
  for (int r = 0; r < rows.count; r++) memcpy(own_q + r * W, q + (r * H + h) * W, W * 4);
  for (int c = 0; c < end; c += block) {
    const int count = std::min(block, end - c);
    k.scores(own_q, W, rows.count, past.keys + (h * stretch + c) * W, W, W, count, scores, block);
    for (int r = 0; r < rows.count; r++) {
      const int own = std::min(count, at[r] + 1 - from - c);
      soften_row(k, scores + r * block, 1, own, count, call.scale, pieces + r * H + h, y + (r * H + h) * B, B, B);
    }
    k.mix(scores, block, rows.count, past.values + (h * stretch + c) * B, B, B, count, y + h * B, H * B);
  }
}

// Run of a long run: q [rows][H][A + R] -> y [rows][H][B].
void expanded(const Call &call, const Run &run, const float *q, const Weight &up_keys, const Weight &up_values, float *y) {
  Library &on = call.on;
  const int64_t H = up_keys.matrices, W = up_keys.N + call.cache.key, B = up_values.N;
  const int tiles = (run.count + tile - 1) / tile, length = call.positions[run.first + run.count - 1] + 1;
  auto *pieces = on.scratch.take<Piece>((size_t)run.count * H);
  std::fill(pieces, pieces + run.count * H, Piece{-INFINITY, 0});
  memset(y, 0, (size_t)run.count * H * B * 4);
  const int64_t room = tile * (block + W);
  auto *scratch = on.scratch.take<float>((size_t)on.pool.threads() * room);
  Expanded past(call, up_keys, up_values);
  for (int from = 0; from < length; from += stretch) {
    const int n = std::min(stretch, length - from);
    past.fill(run.table, from, n);
    share(on, H * tiles, [&](int64_t part, int64_t task) {  // a head at a time, its longest tiles first
      const int64_t h = task / tiles, first = (tiles - 1 - task % tiles) * tile;
      const Run rows{run.first + (int)first, (int)std::min<int64_t>(tile, run.count - first), run.table};
      float *scores = scratch + part * room, *own_q = scores + tile * block;
      meet(past, h, rows, q + first * H * W, from, n, scores, own_q, pieces + first * H, y + first * H * B);
    });
  }
  on.pool.run(run.count, [&](int64_t row) {
    for (int64_t h = 0; h < H; h++) on.attention->shrink(y + (row * H + h) * B, B, 1 / pieces[row * H + h].total);
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

// Measured on V2-Lite's shapes (docs/log.md, 2026-11-24): expanding wins from 145 to 165 rows on, whatever the past is, as
// long as there is one; with none it wins always. But both forms round differently, and below this number every row's
// result is the same however a prompt is cut into steps, so it does not go down for the sake of first chunks.
constexpr int expand_rows = 160;

}  // namespace
}  // namespace cpu

int latent_attend(latent *on, const float *q, const float *q_rope, const latent_weight *key_up,
                  const latent_weight *value_up, latent_cache *cache, int layer, const int32_t *starts,
                  const int32_t *positions, const int32_t *tables, int runs, int table_width, float scale, float *y) {
  using namespace cpu;
  const int64_t H = key_up->matrices, A = key_up->D, B = value_up->N, C = cache->latent, R = cache->key;
  ready(*on, *key_up), ready(*on, *value_up);
  const Call call{*on, *cache, layer, positions, scale};
  const auto rows_of = [&](int r) { return cpu::Run{starts[r], starts[r + 1] - starts[r], tables + (int64_t)r * table_width}; };
  const auto long_run = [&](const cpu::Run &run) { return run.count >= expand_rows; };
  for (int r = 0; r < runs;) {
    on->scratch.reset();
    std::vector<cpu::Run> together{rows_of(r++)};
    const int64_t first = together[0].first;
    if (long_run(together[0])) {
      const float *both = beside(*on, q + first * H * A, A, q_rope + first * H * R, R, together[0].count * H);
      expanded(call, together[0], both, turned(*on, *key_up), *value_up, y + first * H * B);
      continue;
    }
    while (r < runs && !long_run(rows_of(r))) together.push_back(rows_of(r++));  // neighbouring short runs are one piece of work
    const int count = together.back().first + together.back().count - (int)first;
    if (count == 0) continue;
    auto *latents = on->scratch.take<float>((size_t)count * H * C), *u = on->scratch.take<float>((size_t)count * H * C);
    head_linear(*on, q + first * H * A, count, *key_up, latents);
    absorbed(call, (int)H, beside(*on, latents, C, q_rope + first * H * R, R, count * H), together, u);
    head_linear(*on, u, count, *value_up, y + first * H * B);
  }
  return 0;
}
