// Times every operation of a library that implements ops.h, in the shapes of V2-Lite, with nothing but the compiler:
//   sh native/build.sh bench && build/bench [--features SET] [--threads N] [--only SUBSTRING] [--json]
// Each line says how long a call took, what that makes of bytes or operations a second, and which share it is of the
// machine's own limit, measured in turns with it: memory's or arithmetic's, whichever allows less. Weights and
// caches take turns among more copies than the processor's caches hold, as the layers of a model do. What works on
// activations alone (norms, rope ...) finds them in the caches, as it does in a model: its share of memory can pass 100%.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "sources.h"

namespace {

constexpr int D = 2048, F = 1408, E = 64, K = 6, V = 102400;               // V2-Lite, as ops.h names its sizes
constexpr int H = 16, A = 128, R = 64, C = 512, B = 128, page = 64;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// What one call touches and computes; `peak` is the ceiling of its arithmetic, "" where that is not worth a word.
struct Cost {
  double bytes, operations;
  std::string peak;
};

double middle(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

struct Bench {
  latent *on;
  std::string only, kernels;
  bool json;
  std::map<std::string, double> first;  // ceilings as they were at first: good enough to see which one limits

  bool wanted(const std::string &name) const { return name.find(only) != std::string::npos; }

  double ceiling(const std::string &what) {
    if (!first.count(what)) first[what] = latent_ceiling(on, what.c_str());
    return first[what];
  }

  // The best arithmetic there is for products of these weights.
  std::string peak(const Source &s) {
    const bool integer = s.block > 1, wide = s.dtype == LATENT_F32;
    const std::string tiles = integer ? "amx-int8" : "amx-bf16", vectors = integer ? "int8" : "bf16";
    if (kernels == "amx" && !wide && ceiling(tiles) > 0) return tiles;
    return !wide && ceiling(vectors) > 0 ? vectors : "f32";
  }

  // Calls and the limit in turns, because machines drift; `run` is told which copy is next.
  void measure(const std::string &name, const Cost &cost, const std::function<int(int)> &run) {
    if (!wanted(name)) return;
    int calls = 0;
    for (double end = now() + 0.05; now() < end || calls < 2;) check(run(calls++));
    const int each = std::max(1, calls / 20);
    const double most = cost.peak.empty() ? 0 : ceiling(cost.peak);
    const bool computes = most > 0 && cost.operations / most > cost.bytes / std::max(ceiling("read"), 1e-9);
    const std::string limit = computes ? cost.peak : "read";
    const double work = (computes ? cost.operations : cost.bytes) / 1e9;
    std::vector<double> times, limits, shares;
    for (int round = 0; round < 5; round++) {
      limits.push_back(latent_ceiling(on, limit.c_str()));
      std::vector<double> samples;
      for (double end = now() + 0.06; now() < end || samples.size() < 3;) {
        const double start = now();
        for (int i = 0; i < each; i++) check(run(calls++));
        samples.push_back((now() - start) / each);
      }
      times.push_back(middle(samples));
      shares.push_back(work / times.back() / limits.back());
    }
    const char *unit = !computes ? "GB/s" : limit.find("int8") == std::string::npos ? "GFLOP/s" : "GOP/s";
    const char *form = json ? "{\"name\":\"%s\",\"seconds\":%.9f,\"value\":%.3f,\"unit\":\"%s\",\"limit\":\"%s\","
                              "\"ceiling\":%.2f,\"share\":%.4f}\n"
                            : "%-44s %12.9f s %9.1f %-8s limit %-8s %8.1f %7.2f\n";
    std::printf(form, name.c_str(), middle(times), work / middle(times), unit, limit.c_str(), middle(limits), middle(shares));
    std::fflush(stdout);
  }

  void check(int failed) {
    if (!failed) return;
    std::fprintf(stderr, "bench: %s\n", latent_error(on));
    std::exit(1);
  }

  void skip(const std::string &name, const std::string &why) {
    if (wanted(name)) std::printf(json ? "{\"name\":\"%s\",\"skipped\":\"%s\"}\n" : "%-44s skipped: %s\n", name.c_str(), why.c_str());
  }
};

// Copies of `bytes` that no cache holds all of.
int copies(double bytes) {
  double cache = 64e6;
#ifdef _SC_LEVEL3_CACHE_SIZE
  cache = std::max(cache, (double)sysconf(_SC_LEVEL3_CACHE_SIZE));
#endif
  return (int)(4 * cache / bytes) + 1;
}

double bytes_of(const Source &s, double count) { return count / s.block * s.bytes; }

const Source &source(const std::string &name) {
  for (const Source &s : sources) {
    if (s.name == name) return s;
  }
  std::abort();
}

// `matrices` times the same [N D]: what is in them makes no difference to time, so it is made once.
latent_weight *upload(Bench &b, const Source &s, int64_t matrices, int64_t N, int64_t width) {
  static std::map<std::pair<int, int64_t>, std::vector<uint8_t>> made;
  std::vector<uint8_t> &one = made[{s.dtype, N * width}], all;
  if (one.empty()) one = weights(s, N * width);
  for (int64_t i = 0; i < matrices; i++) all.insert(all.end(), one.begin(), one.end());
  const std::vector<float> scales(s.dtype == LATENT_F8_E4M3 ? matrices * ((N + 127) / 128) * ((width + 127) / 128) : 0, 0.5f);
  const int64_t shape[] = {matrices, N, width};
  const int lead = matrices == 1 ? 1 : 0;
  latent_weight *w = latent_upload(b.on, s.dtype, 3 - lead, shape + lead, all.data(), scales.empty() ? nullptr : scales.data());
  b.check(w == nullptr);
  return w;
}

void linears(Bench &b) {
  const int sizes[][2] = {{D, D}, {F, D}, {D, F}};
  const std::vector<float> x = floats(512 * D);
  std::vector<float> y(512 * D);
  for (const Source &s : sources) {
    for (const auto &[N, width] : sizes) {
      const std::string name = std::string("linear ") + s.name + " " + std::to_string(N) + "x" + std::to_string(width) + ", rows ";
      if (width % s.block) {
        b.skip(name + "any", std::to_string(width) + " is not a whole number of its blocks");
        continue;
      }
      const int rows[] = {1, 16, 512};
      if (std::none_of(rows, rows + 3, [&](int T) { return b.wanted(name + std::to_string(T)); })) continue;
      const double bytes = bytes_of(s, (double)N * width);
      std::vector<latent_weight *> w(copies(bytes));
      for (latent_weight *&one : w) one = upload(b, s, 1, N, width);
      for (int T : rows) {
        b.measure(name + std::to_string(T), {bytes, 2. * T * N * width, b.peak(s)}, [&](int i) {
          return latent_linear(b.on, x.data(), T, w[i % w.size()], y.data());
        });
      }
      for (latent_weight *one : w) latent_release(b.on, one);
    }
  }
}

void experts(Bench &b) {
  // q4_k_m keeps wide rows in q4_k; rows of 1408 are no whole number of its blocks, and are q5_0
  const char *kinds[][3] = {{"bf16", "bf16", "bf16"}, {"q8_0", "q8_0", "q8_0"}, {"q4_0", "q4_0", "q4_0"}, {"q4_k_m", "q4_k", "q5_0"}};
  const std::vector<float> x = floats(512 * D), shares(512 * K, 1.f / K);
  std::vector<float> y(512 * D);
  for (const auto &[kind, wide, tall] : kinds) {
    const std::string name = std::string("experts ") + kind + ", rows ";
    const int rows[] = {1, 16, 512};
    if (std::none_of(rows, rows + 3, [&](int T) { return b.wanted(name + std::to_string(T)); })) continue;
    latent_weight *gate = upload(b, source(wide), E, F, D), *up = upload(b, source(wide), E, F, D);
    latent_weight *down = upload(b, source(tall), E, D, F);
    const double each = 2 * bytes_of(source(wide), F * D) + bytes_of(source(tall), F * D);
    for (int T : rows) {
      constexpr int turns = 64;
      std::vector<int32_t> chosen;
      double met = 0;
      for (int turn = 0; turn < turns; turn++) {
        std::vector<int32_t> deck(E);
        for (int e = 0; e < E; e++) deck[e] = e;
        for (int t = 0; t < T; t++) {
          std::shuffle(deck.begin(), deck.end(), dice);
          chosen.insert(chosen.end(), deck.begin(), deck.begin() + K);
        }
        met += std::set<int32_t>(chosen.end() - T * K, chosen.end()).size();
      }
      b.measure(name + std::to_string(T), {met / turns * each, 6. * T * K * F * D, b.peak(source(wide))}, [&](int i) {
        return latent_experts(b.on, x.data(), T, &chosen[(size_t)(i % turns) * T * K], shares.data(), K, gate, up, down, y.data());
      });
    }
    for (latent_weight *w : {gate, up, down}) latent_release(b.on, w);
  }
}

// `runs` sequences with `past` latents, each with `fresh` new rows.
void attend(Bench &b, int dtype, const char *format, int runs, int past, int fresh) {
  const std::string name = std::string(fresh > 1 ? "attend a prompt, " : "attend, ") + format + ", rows " +
                           std::to_string(runs * fresh) + ", context " + std::to_string(past + fresh);
  if (!b.wanted(name)) return;
  const int length = past + fresh, width = (length + page - 1) / page;
  const double row = dtype == LATENT_Q8_0 ? C + C / 32 * 2 + R * 2 : 2 * (C + R), cached = row * runs * length;
  const int layers = fresh > 1 ? 1 : copies(cached);
  latent_cache *cache = latent_cache_open(b.on, layers, runs * width, page, C, R, dtype);
  if (!cache) return b.skip(name, latent_error(b.on));
  std::vector<int32_t> tables(runs * width), starts(runs + 1), positions, slots;
  for (int i = 0; i < runs * width; i++) tables[i] = i;
  std::shuffle(tables.begin(), tables.end(), dice);
  for (int run = 0; run < runs; run++) {
    starts[run + 1] = (run + 1) * fresh;
    for (int p = past; p < length; p++) positions.push_back(p);
  }
  const std::vector<float> latents = floats((size_t)page * C), keys = floats(page * R);
  for (int layer = 0; layer < layers; layer++) {
    for (int p = 0; p < runs * width; p++) {
      slots.clear();
      for (int i = 0; i < page; i++) slots.push_back(p * page + i);
      b.check(latent_store(b.on, cache, layer, slots.data(), page, latents.data(), keys.data()));
    }
  }
  const Source &s = source("q8_0");
  latent_weight *up = upload(b, s, H, C, A), *down = upload(b, s, H, B, C);
  const int T = runs * fresh;
  const std::vector<float> q = floats((size_t)T * H * A), rope = floats(T * H * R);
  std::vector<float> y((size_t)T * H * B);
  const double seen = fresh > 1 ? (double)fresh * (fresh + 1) / 2 : length;  // pairs of a query and a key
  // a prompt's keys and values are expanded once a latent; a single row's query is taken to the latents instead
  const double operations = fresh > 1 ? runs * (2. * H * length * C * (A + B) + 2. * H * seen * (A + R + B))
                                      : runs * (2. * H * C * (A + B) + 2. * H * seen * (C + R + C));
  b.measure(name, {cached + bytes_of(s, H * C * (A + B)), operations, "f32"}, [&](int i) {
    return latent_attend(b.on, q.data(), rope.data(), up, down, cache, i % layers, starts.data(), positions.data(),
                         tables.data(), runs, width, 0.1f, y.data());
  });
  for (latent_weight *w : {up, down}) latent_release(b.on, w);
  latent_cache_close(b.on, cache);
}

void attends(Bench &b) {
  const std::pair<int, const char *> kinds[] = {{LATENT_BF16, "bf16"}, {LATENT_Q8_0, "q8_0"}};
  for (const auto &[dtype, format] : kinds) {
    for (int runs : {1, 16}) {
      for (int context : {2048, 8192}) attend(b, dtype, format, runs, context - 1, 1);
    }
    attend(b, dtype, format, 1, 0, 512);
  }
}

void rows(Bench &b) {
  constexpr int T = 512, width = 2 * F;  // the shared experts' width
  std::vector<float> x = floats(T * width), y = floats(T * width), z(T * width), gain = floats(D);
  std::vector<int32_t> numbers(T), slots(T), chosen(T * K);
  std::vector<double> frequencies(R / 2, 0.01);
  for (int t = 0; t < T; t++) numbers[t] = (int32_t)(dice() % V), slots[t] = t;
  const Source &s = source("q4_0");
  if (b.wanted("embed, rows 512")) {
    latent_weight *table = upload(b, s, 1, V, D);
    b.measure("embed, rows 512", {T * (bytes_of(s, D) + 4. * D), 0, ""},
              [&](int) { return latent_embed(b.on, table, numbers.data(), T, y.data()); });
    latent_release(b.on, table);
  }
  b.measure("rms_norm, rows 512", {8. * T * D, 0, ""},
            [&](int) { return latent_rms_norm(b.on, x.data(), T, D, gain.data(), 1e-6f, z.data()); });
  b.measure("rope, rows 512", {8. * T * H * R, 0, ""},
            [&](int) { return latent_rope(b.on, x.data(), T, H, R, slots.data(), frequencies.data(), 1, z.data()); });
  b.measure("swiglu, rows 512", {12. * T * width, 0, ""},
            [&](int) { return latent_swiglu(b.on, x.data(), y.data(), T * width, z.data()); });
  b.measure("add, rows 512", {12. * T * D, 0, ""}, [&](int) { return latent_add(b.on, z.data(), y.data(), T * D); });
  b.measure("pick, rows 512", {8. * T * D, 0, ""},
            [&](int) { return latent_pick(b.on, x.data(), D, slots.data(), T, z.data()); });
  b.measure("route, rows 512", {4. * T * E, 0, ""}, [&](int) {
    return latent_route(b.on, x.data(), T, E, K, 1, 1, 0, 1, chosen.data(), z.data());
  });
  latent_cache *cache = latent_cache_open(b.on, 1, T / page, page, C, R, LATENT_BF16);
  b.measure("store, rows 512", {6. * T * (C + R), 0, ""},
            [&](int) { return latent_store(b.on, cache, 0, slots.data(), T, x.data(), y.data()); });
  latent_cache_close(b.on, cache);
}

}  // namespace

int main(int count, char **arguments) {
  std::map<std::string, std::string> options = {{"--features", ""}, {"--threads", "0"}, {"--only", ""}, {"--json", ""}};
  for (int i = 1; i < count; i++) {
    const std::string name = arguments[i];
    const bool flag = name == "--json";
    if (!options.count(name) || (!flag && i + 1 == count)) {
      std::fprintf(stderr, "usage: bench [--features SET] [--threads N] [--only SUBSTRING] [--json]\n");
      return 2;
    }
    options[name] = flag ? "yes" : arguments[++i];
  }
  latent *on = latent_open(std::atoi(options["--threads"].c_str()), options["--features"].c_str(), 0);
  if (!on) {
    std::fprintf(stderr, "bench: the features '%s' are not to be had on this machine\n", options["--features"].c_str());
    return 1;
  }
  const std::string described = latent_describe(on), kernels = described.substr(0, described.find('\n'));
  std::fprintf(stderr, "%s\n", described.c_str());
  Bench bench{on, options["--only"], kernels.substr(kernels.rfind(' ') + 1), !options["--json"].empty(), {}};
  rows(bench);
  attends(bench);
  experts(bench);
  linears(bench);
  latent_close(on);
}
