// Opening and closing, memory, and which instruction set is used.
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <cstdlib>
#include <cstring>
#include <thread>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "cpu.h"

namespace cpu {

uint8_t *allocate(size_t bytes) {
  constexpr size_t huge = 1 << 21;  // weights are walked through by the gigabyte: small pages would cost address look-ups
  const size_t align = bytes >= 2 * huge ? huge : 64;
  void *memory = std::aligned_alloc(align, (bytes + 64 + align - 1) / align * align);
#ifdef __linux__
  if (memory && align == huge) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return static_cast<uint8_t *>(memory);
}

void release(void *memory) { std::free(memory); }

void *Scratch::take(size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  while (piece_ < pieces_.size() && used_ + bytes > pieces_[piece_].size) piece_++, used_ = 0;
  if (piece_ == pieces_.size()) {
    const size_t size = bytes > (1 << 22) ? bytes : 1 << 22;
    pieces_.push_back({allocate(size), size});
    used_ = 0;
  }
  void *memory = pieces_[piece_].memory + used_;
  used_ += bytes;
  return memory;
}

Scratch::~Scratch() {
  for (const Piece &piece : pieces_) release(piece.memory);
}

namespace {

bool has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool has_avx512() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

bool has_avx512bf16() {
#if defined(__x86_64__)
  unsigned a = 0, b, c, d;
  return has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 5 & 1;
#else
  return false;
#endif
}

bool has_amx() {  // of bf16, int8 and the tiles themselves; the system must have permitted them too
#if defined(__x86_64__)
  unsigned a, b, c, d = 0;
  const bool there = __get_cpuid_count(7, 0, &a, &b, &c, &d) && d >> 22 & 1 && d >> 24 & 1 && d >> 25 & 1;
  static const bool permitted = there && has_avx512bf16() && permit_amx();
  return permitted;
#else
  return false;
#endif
}

// Fills in the kernels of one instruction set; false where this machine has not got it.
bool choose(Library &on, const std::string &features) {
  const std::string best = has_amx() ? "amx" : has_avx512() ? "avx512" : has_avx2() ? "avx2" : "scalar";
  const std::string name = features.empty() ? best : features;
  if (name == "amx" && has_amx()) on.k = kernels_amx(), on.attention = attention_avx512;
  if (name == "avx512bf16" && has_avx512bf16()) on.k = kernels_avx512bf16, on.attention = attention_avx512;
  if (name == "avx512" && has_avx512()) on.k = kernels_avx512, on.attention = attention_avx512;
  if (name == "avx2" && has_avx2()) on.k = kernels_avx2, on.attention = attention_avx2;
  if (name == "scalar") on.k = kernels_scalar, on.attention = attention_scalar;
  return on.k != nullptr;
}

}  // namespace
}  // namespace cpu

int latent_abi(void) { return LATENT_ABI; }

latent *latent_open(int threads, const char *features, int pin) {
  const int cores = (int)std::thread::hardware_concurrency();
  const int count = threads <= 0 || threads > cores ? cores : threads;
  auto *on = new latent(count > 0 ? count : 1, pin != 0);
  if (!cpu::choose(*on, features ? features : "")) {
    delete on;
    return nullptr;
  }
  on->description = std::string("kernels: ") + on->k->name + "\nthreads: " + std::to_string(on->pool.threads()) +
                    "\navx2: " + (cpu::has_avx2() ? "yes" : "no") + "\navx512 with vnni: " + (cpu::has_avx512() ? "yes" : "no") +
                    "\navx512 with bf16: " + (cpu::has_avx512bf16() ? "yes" : "no") + "\namx: " + (cpu::has_amx() ? "yes" : "no");
  return on;
}

void latent_close(latent *on) { delete on; }
const char *latent_error(const latent *on) { return on->error.c_str(); }
const char *latent_describe(const latent *on) { return on->description.c_str(); }

void *latent_alloc(latent *, size_t bytes) { return cpu::allocate(bytes); }
void latent_free(latent *, void *memory) { cpu::release(memory); }

int latent_write(latent *, void *to, const void *host, size_t bytes) {
  memcpy(to, host, bytes);
  return 0;
}

int latent_read(latent *, const void *from, void *host, size_t bytes) {
  memcpy(host, from, bytes);
  return 0;
}

latent_weight *latent_upload(latent *on, int dtype, int rank, const int64_t *shape, const void *data, const float *scales) {
  return static_cast<latent_weight *>(cpu::pack(*on, dtype, rank, shape, data, scales));
}

latent_weight *latent_borrow(latent *on, int dtype, int rank, const int64_t *shape, const void *const *pieces, int count,
                             const int *files, const int64_t *offsets, const float *scales) {
  return static_cast<latent_weight *>(cpu::borrow(*on, dtype, rank, shape, {count, pieces, files, offsets}, scales));
}

void latent_release(latent *on, latent_weight *weight) {
  if (!weight) return;
  latent_release(on, static_cast<latent_weight *>(weight->turned));
  cpu::release(weight->data);
  delete weight;
}
