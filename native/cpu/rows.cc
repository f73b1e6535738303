// Operations on each row by itself: look up, normalize, rotate, gate, add, pick, route.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu.h"

namespace cpu {
namespace {

// Grows the table of cos and sin so that it holds every position up to `last`.
const float *rotations(Library &on, const double *frequencies, int pairs, float factor, int last) {
  RopeTable &t = on.rope;
  const bool same = t.factor == factor && (int)t.frequencies.size() == pairs &&
                    std::equal(t.frequencies.begin(), t.frequencies.end(), frequencies);
  if (!same) t = {{frequencies, frequencies + pairs}, factor, {}};
  for (int p = (int)(t.values.size() / (2 * pairs)); p <= last; p++) {
    for (int i = 0; i < pairs; i++) {
      t.values.push_back((float)(std::cos(p * frequencies[i]) * factor));
      t.values.push_back((float)(std::sin(p * frequencies[i]) * factor));
    }
  }
  return t.values.data();
}

// Splits `count` items into parts worth a thread's while.
void each(Library &on, int64_t count, int64_t grain, const std::function<void(int64_t)> &body) {
  on.pool.run((count + grain - 1) / grain, [&](int64_t part) {
    for (int64_t i = part * grain; i < count && i < (part + 1) * grain; i++) body(i);
  });
}

struct Choice {
  double chance;
  int32_t at;
};
bool better(const Choice &a, const Choice &b) { return a.chance > b.chance || (a.chance == b.chance && a.at < b.at); }

struct Rule {
  int top, groups, top_groups, normalize;
  float scale;
};

void route_row(const float *scores, int E, const Rule &rule, int32_t *experts, float *weights) {
  std::vector<Choice> all(E), groups(rule.groups), kept;
  double max = -INFINITY, sum = 0;
  for (int e = 0; e < E; e++) max = std::max(max, (double)scores[e]);
  for (int e = 0; e < E; e++) sum += (all[e] = {std::exp(scores[e] - max), e}).chance;
  for (Choice &c : all) c.chance /= sum;
  const int width = E / rule.groups;
  for (int g = 0; g < rule.groups; g++) {
    groups[g] = {std::min_element(&all[g * width], &all[g * width] + width, better)->chance, g};
  }
  std::partial_sort(groups.begin(), groups.begin() + rule.top_groups, groups.end(), better);
  for (int g = 0; g < rule.top_groups; g++) {
    kept.insert(kept.end(), &all[groups[g].at * width], &all[groups[g].at * width] + width);
  }
  std::partial_sort(kept.begin(), kept.begin() + rule.top, kept.end(), better);
  double chosen = 0;
  for (int k = 0; k < rule.top; k++) chosen += kept[k].chance;
  const double factor = rule.normalize && rule.top > 1 ? 1 / (chosen + 1e-20) : rule.scale;
  for (int k = 0; k < rule.top; k++) {
    experts[k] = kept[k].at;
    weights[k] = (float)(kept[k].chance * factor);
  }
}

}  // namespace
}  // namespace cpu

int latent_embed(latent *on, const latent_weight *table, const int32_t *tokens, int T, float *y) {
  for (int t = 0; t < T; t++) {
    if (tokens[t] < 0 || tokens[t] >= table->N) {
      on->error = "token " + std::to_string(tokens[t]) + " is outside the embedding of " + std::to_string(table->N) + " rows";
      return 1;
    }
  }
  cpu::each(*on, T, 4, [&](int64_t t) { cpu::unpack_row(*table, 0, tokens[t], y + t * table->D); });
  return 0;
}

int latent_rms_norm(latent *on, const float *x, int T, int D, const float *gain, float eps, float *y) {
  cpu::each(*on, T, 16, [&](int64_t t) { on->k->rms_norm(x + t * D, D, gain, eps, y + t * D); });
  return 0;
}

int latent_rope(latent *on, const float *x, int T, int H, int R, const int32_t *positions, const double *frequencies,
                float factor, float *y) {
  const int pairs = R / 2, last = *std::max_element(positions, positions + T);
  const float *table = cpu::rotations(*on, frequencies, pairs, factor, last);
  cpu::each(*on, T, 16, [&](int64_t t) {
    const float *turn = table + (int64_t)positions[t] * 2 * pairs;
    for (int64_t i = t * H * R; i < (t + 1) * H * R; i += 2) {
      const float *cs = turn + i % R;
      const float even = x[i], odd = x[i + 1];
      y[i] = even * cs[0] - odd * cs[1];
      y[i + 1] = even * cs[1] + odd * cs[0];
    }
  });
  return 0;
}

int latent_add(latent *on, float *x, const float *y, int64_t count) {
  constexpr int64_t grain = 1 << 15;
  on->pool.run((count + grain - 1) / grain, [&](int64_t part) {
    on->k->add(x + part * grain, y + part * grain, std::min(grain, count - part * grain));
  });
  return 0;
}

int latent_swiglu(latent *on, const float *gate, const float *up, int64_t count, float *y) {
  constexpr int64_t grain = 1 << 13;
  on->pool.run((count + grain - 1) / grain, [&](int64_t part) {
    const int64_t at = part * grain;
    on->k->swiglu(gate + at, up + at, std::min(grain, count - at), y + at);
  });
  return 0;
}

int latent_pick(latent *, const float *x, int D, const int32_t *rows, int R, float *y) {
  for (int r = 0; r < R; r++) memcpy(y + (int64_t)r * D, x + (int64_t)rows[r] * D, (size_t)D * 4);
  return 0;
}

int latent_route(latent *on, const float *scores, int T, int E, int top, int groups, int top_groups, int normalize,
                 float scale, int32_t *experts, float *weights) {
  if (groups < 1 || E % groups || top_groups > groups || top > E / groups * top_groups) {
    on->error = std::to_string(E) + " experts in " + std::to_string(groups) + " groups cannot give " + std::to_string(top);
    return 1;
  }
  const cpu::Rule rule{top, groups, top_groups, normalize, scale};
  cpu::each(*on, T, 8, [&](int64_t t) {
    cpu::route_row(scores + t * E, E, rule, experts + t * top, weights + t * top);
  });
  return 0;
}
