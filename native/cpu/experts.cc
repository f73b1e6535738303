// The routed experts of a layer, grouped: each expert's weights are read once a step, whatever the number of its tokens.
//
//   order   visits (t, k) sorted by expert           [T K]
//   inner   silu(gate x) * up x, a row a visit       [T K, F]
//   outer   down inner, a row a visit                [T K, D]
//   y       sum over k of weight * outer, k in order [T, D]
#include <algorithm>
#include <cstring>

#include "cpu.h"

namespace cpu {
namespace {

struct Group {
  int64_t expert;
  int first, count;  // visits
};

// Sorts visits by expert (counting sort, so equal experts keep their order) and says where each visit went.
std::vector<Group> group(const int32_t *experts, int visits, int64_t E, int32_t *token, int32_t *place, int K) {
  std::vector<int> start(E + 1, 0);
  for (int i = 0; i < visits; i++) start[experts[i] + 1]++;
  for (int64_t e = 0; e < E; e++) start[e + 1] += start[e];
  std::vector<Group> groups;
  for (int64_t e = 0; e < E; e++) {
    if (start[e + 1] > start[e]) groups.push_back({e, start[e], start[e + 1] - start[e]});
  }
  for (int i = 0; i < visits; i++) {
    place[i] = start[experts[i]]++;
    token[place[i]] = i / K;
  }
  return groups;
}

// One matrix of every visited expert.
struct Product {
  const Weight *w;
  const float *x;
  const Quantized *q;
  const int32_t *token;  // row of x for each visit; null where x has a row for each visit, in their order
  float *out;            // [visits, N]
};

void multiply(const Library &on, const Product &a, const Group &g, int64_t p) {
  const Weight &w = *a.w;
  Rows rows{a.x, a.q, w.D, a.token ? a.token + g.first : nullptr, g.count};
  Quantized own{};
  if (!a.token) {  // start at the group's first row
    const int64_t blocks = w.D / block;
    rows.x = a.x + (int64_t)g.first * w.D;
    if (w.quantized()) {
      own = {a.q->values + g.first * w.D, a.q->scales + g.first * blocks, a.q->sums + g.first * blocks * 2};
      rows.q = &own;
    }
  }
  const int width = (int)std::min<int64_t>(lanes, w.N - p * lanes);
  on.k->panel(w.layout, w.panel(g.expert, p), rows, a.out + (int64_t)g.first * w.N + p * lanes, w.N, width);
}

// Products whose inputs are all there, together: (matrix, expert, stretch of panels) is a task.
void each_expert(Library &on, const std::vector<Group> &groups, const std::vector<Product> &products) {
  const int64_t panels = products[0].w->panels();
  const int64_t wanted = 16 * on.pool.threads(), given = (int64_t)(groups.size() * products.size());
  const int64_t parts = std::min(panels, std::max<int64_t>(1, (wanted + given - 1) / given));
  on.pool.run(given * parts, [&](int64_t task) {
    const int64_t part = task % parts, which = task / parts;
    const Product &product = products[which % products.size()];
    const Group &g = groups[which / products.size()];
    for (int64_t p = panels * part / parts; p < panels * (part + 1) / parts; p++) multiply(on, product, g, p);
  });
}

}  // namespace
}  // namespace cpu

int latent_experts(latent *on, const float *x, int T, const int32_t *experts, const float *weights, int K,
                   const latent_weight *gate, const latent_weight *up, const latent_weight *down, float *y) {
  using namespace cpu;
  on->scratch.reset();
  const int visits = T * K;
  const int64_t D = gate->D, F = gate->N, E = gate->matrices;
  for (int i = 0; i < visits; i++) {
    if (experts[i] < 0 || experts[i] >= E) {
      on->error = "expert " + std::to_string(experts[i]) + " of " + std::to_string(E);
      return 1;
    }
  }
  auto *token = on->scratch.take<int32_t>(visits), *place = on->scratch.take<int32_t>(visits);
  const std::vector<Group> groups = group(experts, visits, E, token, place, K);
  std::vector<int64_t> chosen;
  for (const Group &g : groups) chosen.push_back(g.expert);
  for (const latent_weight *w : {gate, up, down}) ready(*on, *w, chosen.data(), (int64_t)chosen.size());
  auto *inner = on->scratch.take<float>((size_t)visits * F), *lift = on->scratch.take<float>((size_t)visits * F);
  auto *outer = on->scratch.take<float>((size_t)visits * D);

  Quantized q{};
  if (gate->quantized() || up->quantized()) q = quantize_rows(*on, x, T, D);
  each_expert(*on, groups, {{gate, x, &q, token, inner}, {up, x, &q, token, lift}});
  Quantized q2 = down->quantized() ? quantized_rows(*on, visits, F) : Quantized{};
  on->pool.run(visits, [&](int64_t v) {
    on->k->swiglu(inner + v * F, lift + v * F, F, inner + v * F);
    if (down->quantized()) quantize_row(*on, inner, v, F, q2);
  });
  each_expert(*on, groups, {{down, inner, &q2, nullptr, outer}});
  on->pool.run(T, [&](int64_t t) {
    float *out = y + t * D;
    memset(out, 0, D * 4);
    for (int k = 0; k < K; k++) {
      const float weight = weights[t * K + k];
      const float *from = outer + (int64_t)place[t * K + k] * D;
      for (int64_t d = 0; d < D; d++) out[d] += weight * from[d];
    }
  });
  return 0;
}
