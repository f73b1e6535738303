// Checks a library that implements ops.h with nothing but the compiler: the same inputs give the same bits on one thread
// and on several, and nearly the same on every instruction set; bad inputs give errors. Meant to run under sanitizers
// (test/native.test.ts). What the numbers should be is checked against the reference backend in test/ops.
#include <algorithm>
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
constexpr int H = 3, A = 32, R = 16, C = 64, B = 24, page = 16, pages = 106;  // no multiple of 7, see the tables

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

std::vector<float> looked_up(latent *on, const latent_weight *w) {
  std::vector<int32_t> rows(N);
  std::vector<float> y(N * D);
  for (int n = 0; n < N; n++) rows[n] = n;
  expect(latent_embed(on, w, rows.data(), N, y.data()) == 0, "embed");
  return y;
}

// A matrix in five pieces, in memory and in a file: the same numbers as a copy of it, before it is packed and after.
void borrowed(latent *on, const Source &s, const std::vector<uint8_t> &bytes, const float *blocks, const latent_weight *copy,
              const std::vector<float> &x) {
  constexpr int count = 5, apart = 7;  // pieces in the file, the last first, with gaps
  const int64_t shape[] = {N, D};
  const size_t each = bytes.size() / count;
  std::FILE *file = std::tmpfile();
  const void *at[count];
  int files[count];
  int64_t offsets[count];
  for (int i = 0; i < count; i++) {
    at[i] = bytes.data() + i * each, files[i] = fileno(file), offsets[i] = (int64_t)((count - 1 - i) * (each + apart));
    std::fseek(file, (long)offsets[i], SEEK_SET);
    std::fwrite(at[i], 1, each, file);
  }
  std::fflush(file);
  const std::vector<float> wanted = looked_up(on, copy);
  std::vector<float> y(T * N), z(T * N);
  latent_linear(on, x.data(), T, copy, y.data());
  for (bool mapped : {false, true}) {
    latent_weight *w =
        latent_borrow(on, s.dtype, 2, shape, at, count, mapped ? files : nullptr, mapped ? offsets : nullptr, blocks);
    expect(w && looked_up(on, w) == wanted, std::string("borrowed rows of ") + s.name);
    expect(latent_linear(on, x.data(), T, w, z.data()) == 0 && y == z, std::string("a borrowed product of ") + s.name);
    expect(looked_up(on, w) == wanted, std::string("packed rows of ") + s.name);
    latent_release(on, w);
  }
  std::fclose(file);
  expect(!latent_borrow(on, s.dtype, 2, shape, at, 3, nullptr, nullptr, blocks), "unequal pieces are refused");
}

void products(latent *on, const Inputs &in, Outputs &out) {
  for (size_t i = 0; i < sources.size(); i++) {
    const Source &s = sources[i];
    const int64_t matrix[] = {N, D}, wide[] = {E, F, D}, tall[] = {E, D, F};
    const std::vector<float> scales(E * 4 * 4 * 4, 0.5f);
    const float *blocks = s.dtype == LATENT_F8_E4M3 ? scales.data() : nullptr;
    latent_weight *w = latent_upload(on, s.dtype, 2, matrix, in.matrix[i].data(), blocks);
    out.push_back({std::string("embed ") + s.name, looked_up(on, w)});
    borrowed(on, s, in.matrix[i], blocks, w, in.x);
    std::vector<float> all(T * N);
    latent_linear(on, in.x.data(), T, w, all.data());
    for (int rows : {1, 5, 14, T}) {
      std::vector<float> y(rows * N);
      expect(latent_linear(on, in.x.data(), rows, w, y.data()) == 0, std::string("linear ") + s.name);
      out.push_back({std::string("linear ") + s.name + " " + std::to_string(rows), y});
      expect(std::equal(y.begin(), y.end(), all.begin()), out.back().first + ", whatever the number of rows");
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

// Floats as they are, or their upper halves.
latent_weight *uploaded(latent *on, int dtype, const int64_t *shape, const std::vector<float> &values) {
  std::vector<uint16_t> upper(values.size());
  for (size_t i = 0; i < values.size(); i++) std::memcpy(&upper[i], (const char *)&values[i] + 2, 2);
  return latent_upload(on, dtype, 3, shape, dtype == LATENT_BF16 ? (const void *)upper.data() : values.data(), nullptr);
}

// Long and short runs in one step: both forms of attention, over every format of the cache. Short runs also alone, one
// by one: the same bits as together.
void attention(latent *on, const Inputs &in, Outputs &out, int dtype) {
  const int64_t key[] = {H, C, A}, value[] = {H, B, C};
  latent_weight *up = uploaded(on, dtype, key, in.keys), *down = uploaded(on, dtype, value, in.values);
  for (int format : {LATENT_CACHE_F32, LATENT_CACHE_BF16, LATENT_CACHE_Q8}) {
    latent_cache *cache = latent_cache_open(on, 2, pages, page, C, R, format);
    constexpr int runs = 5, width = pages / runs;
    const int past[runs] = {33, 20, 300, 0, 7}, fresh[runs] = {2, 170, 1, 3, 70};
    std::vector<int32_t> tables(pages), starts = {0}, positions, slots;
    for (int i = 0; i < pages; i++) tables[i] = (i * 7 + 3) % pages;
    for (int run = 0; run < runs; run++) {
      starts.push_back(starts[run] + fresh[run]);
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
                         runs, width, 0.1f, y.data()) == 0, "attend");
    out.push_back({std::string(dtype == LATENT_BF16 ? "attend bf16" : "attend") + ", format " + std::to_string(format), y});
    for (int run = 0; run < runs; run++) {
      const int first = starts[run], count = fresh[run], own[] = {0, count};
      std::vector<float> alone(count * H * B);
      expect(latent_attend(on, in.q.data() + first * H * A, in.rope.data() + first * H * R, up, down, cache, 1, own,
                           positions.data() + first, tables.data() + run * width, 1, width, 0.1f, alone.data()) == 0, "alone");
      expect(std::equal(alone.begin(), alone.end(), y.begin() + first * H * B),
             out.back().first + ": run " + std::to_string(run) + " alone has not the bits it has in company");
    }
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
  for (int dtype : {LATENT_F32, LATENT_BF16}) attention(on, in, out, dtype);
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
  size_t compared = one.size() * 2;
  for (const char *features : {"amx", "avx512bf16", "avx512", "avx2", "scalar"}) {
    const Outputs other = everything(in, 2, features);
    compared += other.size();
    for (size_t i = 0; i < other.size(); i++) {
      const bool exact = one[i].first.rfind("embed", 0) == 0;  // packing moves bits, it does not calculate
      const bool rounds = one[i].first.find("bf16") != std::string::npos;  // activations, where tiles or the like take them
      expect(exact ? one[i] == other[i] : distance(one[i].second, other[i].second) < (rounds ? 1e-2f : 2e-3f),
             one[i].first + " with " + features);
    }
  }
  std::printf("%d checks of outputs, %d failed\n", (int)compared, failures);
  return failures != 0;
}
