// Checks a library that implements ops.h with nothing but the compiler: the same inputs give the same bits on one thread
// and on several, and nearly the same on every instruction set; bad inputs give errors. Meant to run under sanitizers
// (test/native.test.ts). What the numbers should be is checked against the reference backend in test/ops.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "sources.h"

namespace {

int failures = 0;

void expect(bool holds, const std::string &what) {
  if (holds) return;
  failures++;
  std::printf("FAILED %s\n", what.c_str());
}

struct Inputs {
  std::vector<std::vector<uint8_t>> matrix, gate, up, down;  // a source each
  std::vector<float> x, keys, values, q, rope, gain;
};

constexpr int T = 29, N = 50, D = 512, E = 6, K = 3, F = 256;
constexpr int H = 3, A = 32, R = 16, C = 64, B = 24, page = 16, pages = 24;

Inputs inputs() {
  Inputs in;
  for (const Source &s : sources) {
    in.matrix.push_back(weights(s, N * D));
    in.gate.push_back(weights(s, E * F * D));
    in.up.push_back(weights(s, E * F * D));
    in.down.push_back(weights(s, E * D * F));
  }
  in.x = floats(T * D), in.gain = floats(D);
  in.keys = floats(H * C * A), in.values = floats(H * B * C), in.q = floats(300 * H * A), in.rope = floats(300 * H * R);
  return in;
}

using Outputs = std::vector<std::pair<std::string, std::vector<float>>>;

void products(latent *on, const Inputs &in, Outputs &out) {
  for (size_t i = 0; i < sources.size(); i++) {
    const Source &s = sources[i];
    const int64_t matrix[] = {N, D}, wide[] = {E, F, D}, tall[] = {E, D, F};
    const std::vector<float> scales(E * 4 * 4 * 4, 0.5f);
    const float *blocks = s.dtype == LATENT_F8_E4M3 ? scales.data() : nullptr;
    latent_weight *w = latent_upload(on, s.dtype, 2, matrix, in.matrix[i].data(), blocks);
    for (int rows : {1, 5, T}) {
      std::vector<float> y(rows * N);
      expect(latent_linear(on, in.x.data(), rows, w, y.data()) == 0, std::string("linear ") + s.name);
      out.push_back({std::string("linear ") + s.name + " " + std::to_string(rows), y});
    }
    latent_weight *bank[] = {latent_upload(on, s.dtype, 3, wide, in.gate[i].data(), blocks),
                             latent_upload(on, s.dtype, 3, wide, in.up[i].data(), blocks),
                             latent_upload(on, s.dtype, 3, tall, in.down[i].data(), blocks)};
    std::vector<int32_t> chosen(T * K);
    std::vector<float> shares(T * K, 0.25f), y(T * D);
    for (int v = 0; v < T * K; v++) chosen[v] = (v * 5 + v / K) % (E - 1);
    expect(latent_experts(on, in.x.data(), T, chosen.data(), shares.data(), K, bank[0], bank[1], bank[2], y.data()) == 0, "experts");
    out.push_back({std::string("experts ") + s.name, y});
    chosen[3] = E;
    expect(latent_experts(on, in.x.data(), T, chosen.data(), shares.data(), K, bank[0], bank[1], bank[2], y.data()) != 0,
           "an expert that does not exist is refused");
    for (latent_weight *b : bank) latent_release(on, b);
    latent_release(on, w);
  }
}

// A long run beside a short one: both forms of attention, over both formats of the cache.
void attention(latent *on, const Inputs &in, Outputs &out) {
  const int64_t key[] = {H, C, A}, value[] = {H, B, C};
  latent_weight *up = latent_upload(on, LATENT_F32, 3, key, in.keys.data(), nullptr);
  latent_weight *down = latent_upload(on, LATENT_F32, 3, value, in.values.data(), nullptr);
  for (int dtype : {LATENT_F32, LATENT_BF16}) {
    latent_cache *cache = latent_cache_open(on, 2, pages, page, C, R, dtype);
    const int past[] = {20, 33}, fresh[] = {170, 2}, width = pages / 2;
    std::vector<int32_t> tables(pages), starts = {0, fresh[0], fresh[0] + fresh[1]}, positions, slots;
    for (int i = 0; i < pages; i++) tables[i] = (i * 7 + 3) % pages;
    for (int run = 0; run < 2; run++) {
      slots.clear();
      for (int p = 0; p < past[run] + fresh[run]; p++) {
        slots.push_back(tables[run * width + p / page] * page + p % page);
        if (p >= past[run]) positions.push_back(p);
      }
      std::mt19937 own(run);
      std::vector<float> latents(slots.size() * C), keys(slots.size() * R);
      for (float &v : latents) v = (float)(own() % 2000) / 1000 - 1;
      for (float &v : keys) v = (float)(own() % 2000) / 1000 - 1;
      expect(latent_store(on, cache, 1, slots.data(), (int)slots.size(), latents.data(), keys.data()) == 0, "store");
    }
    std::vector<float> y(positions.size() * H * B);
    expect(latent_attend(on, in.q.data(), in.rope.data(), up, down, cache, 1, starts.data(), positions.data(), tables.data(),
                         2, width, 0.1f, y.data()) == 0, "attend");
    out.push_back({"attend", y});
    const int32_t outside = pages * page;
    expect(latent_store(on, cache, 0, &outside, 1, in.x.data(), in.x.data()) != 0, "a slot outside the cache is refused");
    latent_cache_close(on, cache);
  }
  expect(latent_cache_open(on, 1, 1, page, C, R, LATENT_Q4_0) == nullptr, "an unknown cache format is refused");
  latent_release(on, up);
  latent_release(on, down);
}

void rows(latent *on, const Inputs &in, Outputs &out) {
  std::vector<float> y(T * D), z = in.x;
  latent_rms_norm(on, in.x.data(), T, D, in.gain.data(), 1e-6f, y.data());
  out.push_back({"rms_norm", y});
  latent_swiglu(on, in.x.data(), y.data(), T * D, y.data());
  out.push_back({"swiglu", y});
  latent_add(on, z.data(), y.data(), T * D);
  out.push_back({"add", z});
  std::vector<int32_t> positions(T), experts(T * 6);
  std::vector<double> frequencies = {1, 0.1, 0.01, 0.001};
  for (int t = 0; t < T; t++) positions[t] = t * 31;
  latent_rope(on, in.x.data(), T, D / 8, 8, positions.data(), frequencies.data(), 1, y.data());
  out.push_back({"rope", y});
  std::vector<float> shares(T * 6);
  expect(latent_route(on, in.x.data(), T, 160, 6, 8, 3, 0, 16, experts.data(), shares.data()) == 0, "route");
  out.push_back({"route", shares});
  expect(latent_route(on, in.x.data(), T, 160, 70, 8, 3, 0, 16, experts.data(), shares.data()) != 0, "too many experts are refused");
}

Outputs everything(const Inputs &in, int threads, const char *features) {
  Outputs out;
  latent *on = latent_open(threads, features, 0);
  if (!on) return out;  // this machine has not that instruction set
  products(on, in, out);
  attention(on, in, out);
  rows(on, in, out);
  const int64_t odd[] = {4, 33};
  expect(latent_upload(on, LATENT_Q4_0, 2, odd, in.x.data(), nullptr) == nullptr && *latent_error(on), "half a block is refused");
  latent_close(on);
  return out;
}

float distance(const std::vector<float> &a, const std::vector<float> &b) {
  float off = 0, most = 1e-30f;
  for (size_t i = 0; i < a.size(); i++) off = std::fmax(off, std::fabs(a[i] - b[i])), most = std::fmax(most, std::fabs(a[i]));
  return off / most;
}

}  // namespace

int main() {
  expect(latent_abi() == LATENT_ABI, "the library speaks this header's version");
  expect(latent_open(1, "no such features", 0) == nullptr, "unknown features are refused");
  const Inputs in = inputs();
  const Outputs one = everything(in, 1, "");
  for (int threads : {2, 3}) {
    const Outputs many = everything(in, threads, "");
    for (size_t i = 0; i < one.size(); i++) expect(one[i] == many[i], one[i].first + " on " + std::to_string(threads) + " threads");
  }
  for (const char *features : {"avx2", "scalar"}) {
    const Outputs other = everything(in, 2, features);
    for (size_t i = 0; i < other.size(); i++) {
      expect(distance(one[i].second, other[i].second) < 2e-3f, one[i].first + " with " + features);
    }
  }
  std::printf("%d checks of outputs, %d failed\n", (int)one.size() * 5, failures);
  return failures != 0;
}
