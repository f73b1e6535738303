// What this machine could do at most, measured with the library's own threads: what the kernels' speeds are shares of.
// Each peak is a loop of one instruction over registers, with more independent sums than its latency asks for; nothing
// is read, so no kernel that also has to fetch its numbers can beat it.
#include <chrono>
#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cpu.h"

namespace cpu {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The best of what fits in `seconds`, as units of `work` a second: a thread that the system took away only ever slows.
double best(double work, double seconds, const std::function<void()> &run) {
  double most = 0;
  run();  // threads awake, pages there
  for (double begun = now(), start = begun; start < begun + seconds;) {
    run();
    const double end = now();
    most = work / (end - start) > most ? work / (end - start) : most;
    start = end;
  }
  return most;
}

constexpr size_t piece = (size_t)1 << 21;  // what a thread reads at a time

// Wide loads are what reads fastest: as many lines of the cache are on their way as loads fit a core's window.
#define READ(name, isa, lanes)                                                              \
  isa uint64_t name(const uint8_t *memory) {                                                \
    typedef uint64_t Vector __attribute__((vector_size(8 * lanes)));                        \
    const auto *from = reinterpret_cast<const Vector *>(memory);                            \
    Vector s[8] = {};                                                                       \
    for (size_t at = 0; at < piece / sizeof(Vector); at += 8) {                             \
      for (int j = 0; j < 8; j++) s[j] += from[at + j];                                     \
    }                                                                                       \
    for (int j = 1; j < 8; j++) s[0] += s[j];                                               \
    return s[0][0];                                                                         \
  }

READ(read_plain, , 2)
#if defined(__x86_64__)
READ(read_avx2, __attribute__((target("avx2"))), 4)
READ(read_avx512, __attribute__((target("avx512f"))), 8)
auto read_widest() {
  return __builtin_cpu_supports("avx512f") ? read_avx512 : __builtin_cpu_supports("avx2") ? read_avx2 : read_plain;
}
#else
auto read_widest() { return read_plain; }
#endif

double read_rate(Library &on) {
  constexpr size_t bytes = (size_t)1 << 30, pieces = bytes / piece;
  static uint8_t *const memory = allocate(bytes);  // kept: making it takes longer than reading it ten times
  static bool written = false;
  if (!memory) return 0;
  if (!written) on.pool.run(pieces, [&](int64_t i) { memset(memory + i * piece, 1, piece); });
  written = true;
  std::vector<uint64_t> sums(pieces);
  const auto read = read_widest();
  return best(bytes / 1e9, 0.1, [&] {
    on.pool.run(pieces, [&](int64_t i) { sums[i] = read(memory + i * piece); });
  });
}

#if defined(__x86_64__)

constexpr int sums = 12, rounds = 4096;
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x16 __attribute__((vector_size(64)));

// Small numbers in every format, so that sums neither overflow nor are all zeros (which would take less power).
template <class V> inline __attribute__((always_inline)) void fill(V &v) { memset(&v, 0x3c, sizeof v); }

#define PEAK(name, isa, Vector, instruction)                                       \
  __attribute__((target(isa))) void name() {                                       \
    Vector a, b, s[sums] = {};                                                     \
    fill(a), fill(b);                                                              \
    for (int i = 0; i < rounds; i++) {                                             \
      _Pragma("GCC unroll 12") for (int j = 0; j < sums; j++)                      \
        asm volatile(instruction " %2, %1, %0" : "+v"(s[j]) : "v"(a), "v"(b));     \
    }                                                                              \
  }

PEAK(fma_avx2, "avx2,fma", f32x8, "vfmadd231ps")
PEAK(fma_avx512, "avx512f", f32x16, "vfmadd231ps")
PEAK(int8_avx512, "avx512f,avx512vnni", f32x16, "vpdpbusd")

__attribute__((target("avx2"))) void int8_avx2() {  // what stands for a dot product where there is none
  f32x8 a, b, s[sums] = {}, t;
  fill(a), fill(b);
  for (int i = 0; i < rounds; i++) {
    _Pragma("GCC unroll 12") for (int j = 0; j < sums; j++)
      asm volatile("vpmaddubsw %3, %2, %1\n vpmaddwd %3, %1, %1\n vpaddd %1, %0, %0" : "+v"(s[j]), "=&v"(t) : "v"(a), "v"(b));
  }
}

bool bit(int leaf, int sub, int reg, int at) {
  unsigned r[4] = {};
  return __get_cpuid_count(leaf, sub, &r[0], &r[1], &r[2], &r[3]) && (r[reg] >> at & 1);
}

#if __GNUC__ >= 11 || defined(__clang__)  // older ones come with assemblers that do not know these

PEAK(int8_vex, "avx2", f32x8, "%{vex%} vpdpbusd")
PEAK(bf16_avx512, "avx512f,avx512bf16", f32x16, "vdpbf16ps")
bool has_vex_vnni() { return __builtin_cpu_supports("avx2") && bit(7, 1, 0, 4); }
bool has_bf16() { return __builtin_cpu_supports("avx512f") && bit(7, 1, 0, 5); }

bool has_tiles(int kind) {  // 24: int8 is bit 25, bf16 bit 22
#ifdef __linux__
  constexpr int request = 0x1023, tile_data = 18;  // arch_prctl(ARCH_REQ_XCOMP_PERM): tiles must be asked for
  return bit(7, 0, 3, 24) && bit(7, 0, 3, kind) && syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
  return false && kind;
#endif
}

struct alignas(64) TileShape {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Six tiles of sums, one of each factor: a product takes 16 cycles and is there after 52.
#define TILES(name, instruction)                                                                                 \
  void name() {                                                                                                  \
    const TileShape shape;                                                                                       \
    alignas(64) uint8_t numbers[1024];                                                                           \
    fill(numbers);                                                                                               \
    const int64_t stride = 64;                                                                                   \
    asm volatile("ldtilecfg %0\n tileloadd (%1,%2,1), %%tmm6\n tileloadd (%1,%2,1), %%tmm7"                      \
                 : : "m"(shape), "r"(numbers), "r"(stride) : "memory");                                          \
    asm volatile("tilezero %tmm0\n tilezero %tmm1\n tilezero %tmm2\n tilezero %tmm3\n tilezero %tmm4\n tilezero %tmm5"); \
    for (int i = 0; i < rounds / 16; i++) {                                                                      \
      asm volatile(instruction " %tmm7, %tmm6, %tmm0\n" instruction " %tmm7, %tmm6, %tmm1\n" instruction         \
                   " %tmm7, %tmm6, %tmm2\n" instruction " %tmm7, %tmm6, %tmm3\n" instruction                     \
                   " %tmm7, %tmm6, %tmm4\n" instruction " %tmm7, %tmm6, %tmm5");                                 \
    }                                                                                                            \
    asm volatile("tilerelease");                                                                                 \
  }

TILES(int8_tiles, "tdpbssd")
TILES(bf16_tiles, "tdpbf16ps")
constexpr double tile_products = rounds / 16 * 6 * 16 * 16 * 2.;  // times the depth: 64 of int8, 32 of bf16

#else
bool has_vex_vnni() { return false; }
bool has_bf16() { return false; }
bool has_tiles(int) { return false; }
void int8_vex() {}
void bf16_avx512() {}
void int8_tiles() {}
void bf16_tiles() {}
constexpr double tile_products = 0;
#endif

// `operations` of one call of `loop`, on all threads at once.
double peak(Library &on, double operations, void (*loop)()) {
  const int64_t calls = 16 * on.pool.threads();
  return best(operations * calls / 1e9, 0.03, [&] { on.pool.run(calls, [loop](int64_t) { loop(); }); });
}

double arithmetic(Library &on, const std::string &what) {
  constexpr double each = 2. * sums * rounds;
  const bool avx512 = __builtin_cpu_supports("avx512f"), avx2 = __builtin_cpu_supports("avx2");
  if (what == "f32" && avx512) return peak(on, each * 16, fma_avx512);
  if (what == "f32" && avx2 && __builtin_cpu_supports("fma")) return peak(on, each * 8, fma_avx2);
  if (what == "int8" && avx512 && __builtin_cpu_supports("avx512vnni")) return peak(on, each * 64, int8_avx512);
  if (what == "int8" && has_vex_vnni()) return peak(on, each * 32, int8_vex);
  if (what == "int8" && avx2) return peak(on, each * 32, int8_avx2);
  if (what == "bf16" && has_bf16()) return peak(on, each * 32, bf16_avx512);
  if (what == "amx-int8" && has_tiles(25)) return peak(on, tile_products * 64, int8_tiles);
  if (what == "amx-bf16" && has_tiles(22)) return peak(on, tile_products * 32, bf16_tiles);
  return 0;
}

#else
double arithmetic(Library &, const std::string &) { return 0; }
#endif

}  // namespace
}  // namespace cpu

double latent_ceiling(latent *on, const char *what) {
  return strcmp(what, "read") == 0 ? cpu::read_rate(*on) : cpu::arithmetic(*on, what);
}
