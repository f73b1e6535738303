// What a product on tiles works with: the tiles' shapes, a thread's own room, a rectangle of the result. Included by
// amx.cc alone; everything here is local to it.
#pragma once
#include <algorithm>
#include <cstring>

#include "cpu.h"
#include "simd.h"

namespace cpu {
namespace {

constexpr int tile = 1024;             // bytes
constexpr int strips_together = 16;    // a stretch of them stays in the second cache while panels pass
constexpr int step = 32;               // elements of a row that a tile of halves holds
constexpr int steps_together = 64;
constexpr int halves_together = 8;     // panels that pass together
constexpr int blocks_together = 8;
constexpr int integers_together = 4;   // panels unpacked at a time: 24 KB

struct alignas(64) Shapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
  void set(int which, int height, int width) { rows[which] = (uint8_t)height, row_bytes[which] = (uint16_t)width; }
};

// The shapes of this thread's tiles, for one task: tiles in use would make every switch of threads dearer.
class Tiles {
 public:
  explicit Tiles(const Shapes &shapes) {
    asm volatile("" ::"m"(shapes));  // compilers believe that only its first bytes are read
    _tile_loadconfig(&shapes);
  }
  ~Tiles() { _tile_release(); }
};

// Compilers do not know that a tile load reads memory.
inline void written() { asm volatile("" ::: "memory"); }

// One block of 16 rows, ready for tiles: signed codes, scales and mins as floats.
struct alignas(64) Block {
  int8_t codes[block * lanes];
  f32x16 scale[2], min[2];
};

struct Room {
  float sums[strips_together * halves_together * lanes * lanes];
  union {
    uint8_t tails[halves_together][tile];  // last steps of panels, filled up with zeros
    Block blocks[integers_together][blocks_together];
  };
};

Room &own_room() {
  struct Owner {
    Room *room = reinterpret_cast<Room *>(allocate(sizeof(Room)));
    ~Owner() { release(room); }
  };
  thread_local Owner owner;
  return *owner.room;
}

// A rectangle of y: strips [s0, s1) and panels [p0, p1), with the whole product's operands.
struct Part {
  const Weight &w;
  int64_t matrix;
  const Strips &x;
  int s0, s1;
  int64_t p0, p1;
  float *y;
  int64_t stride;
};

// sums [16][16] -> their place in y
void deliver(const Part &part, int s, int64_t p, const float *sums) {
  const Strip strip = part.x.at(s);
  const int width = (int)std::min<int64_t>(lanes, part.w.N - p * lanes);
  float *y = part.y + strip.first * part.stride + p * lanes;
  for (int t = 0; t < strip.rows; t++) {
    if (width == lanes) store(y + t * part.stride, load<f32x16>(sums + t * lanes));
    else memcpy(y + t * part.stride, sums + t * lanes, width * 4);
  }
}

}  // namespace
}  // namespace cpu
