// The routed experts of a layer, grouped: each expert's weights are read once a step, whatever the number of its tokens.
//
//   strips  rows of x, gathered in order of expert   [T K, D]
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

// The rows of every group as strips of their own; `prepare` is called with each visit before its row is packed.
template <class Prepare>
std::vector<Strips> pack_groups(Library &on, Layout layout, const std::vector<Group> &groups, const float *x,
                                const int32_t *token, int64_t D, const Prepare &prepare) {
  std::vector<Strips> packed;
  std::vector<std::pair<int, int>> tasks;  // group, strip
  for (const Group &g : groups) {
    packed.push_back(room_for_strips(on, layout, g.count, D));
    for (int s = 0; s < packed.back().count(); s++) tasks.push_back({(int)packed.size() - 1, s});
  }
  on.pool.run((int64_t)tasks.size(), [&](int64_t task) {
    const auto [which, s] = tasks[task];
    pack_rows(on, layout, packed[which], s, D, [&, first = groups[which].first](int t) {
      const int visit = first + t;
      prepare(visit);
      return x + (int64_t)(token ? token[visit] : visit) * D;
    });
  });
  return packed;
}

// One matrix of every visited expert.
struct Product {
  const Weight *w;
  const std::vector<Strips> *x;  // a group each
  float *out;                    // [visits, N]
};

// Products whose inputs are all there, together: (matrix, expert, stretch of panels) is a task.
void each_expert(Library &on, const std::vector<Group> &groups, const std::vector<Product> &products) {
  constexpr int64_t together = 8;  // panels, which share the strips of their expert
  const int64_t panels = products[0].w->panels(), given = (int64_t)(groups.size() * products.size());
  const int64_t parts = (panels + together - 1) / together;
  on.pool.run(given * parts, [&](int64_t task) {
    const int64_t part = task % parts, which = task / parts;
    const Product &product = products[which % products.size()];
    const size_t at = which / products.size();
    const Group &g = groups[at];
    multiply(on, *product.w, g.expert, (*product.x)[at], panels * part / parts, panels * (part + 1) / parts,
             product.out + g.first * product.w->N, product.w->N);
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

  const auto nothing = [](int) {};
  const auto x_gate = pack_groups(*on, gate->layout, groups, x, token, D, nothing);
  const auto x_up = alike(*on, gate->layout, up->layout) ? x_gate : pack_groups(*on, up->layout, groups, x, token, D, nothing);
  each_expert(*on, groups, {{gate, &x_gate, inner}, {up, &x_up, lift}});
  const auto activate = [&](int64_t v) { on->k->swiglu(inner + v * F, lift + v * F, F, inner + v * F); };
  const auto x_down = pack_groups(*on, down->layout, groups, inner, nullptr, F, activate);
  each_expert(*on, groups, {{down, &x_down, outer}});
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
