// The paged latent cache: its memory, writing rows into it, and reading them back as f32. Knows formats; computes nothing.
#include <algorithm>
#include <cstring>

#include "cpu.h"

namespace cpu {
namespace {

float widened(uint16_t half) {
  const uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

uint16_t bf16(float value) {  // nearest, ties to even; NaN stays NaN
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

void narrow(const float *from, int64_t count, uint8_t *to) {
  for (int64_t i = 0; i < count; i++) {
    const uint16_t half = bf16(from[i]);
    memcpy(to + 2 * i, &half, 2);
  }
}

// The step of a block is its largest size / 127, rounded to bf16; codes are counted in the rounded step, so that rounding
// it costs nothing. A block too small for its step's inverse is zero.
void quantize(const float *from, int64_t count, uint8_t *scale, uint8_t *codes) {
  float most = 0;
  for (int64_t i = 0; i < count; i++) most = std::max(most, from[i] < 0 ? -from[i] : from[i]);
  const uint16_t half = bf16(most / 127);
  memcpy(scale, &half, 2);
  const float step = widened(half), inverse = step < 0x1p-126f ? 0 : 1 / step;
  for (int64_t i = 0; i < count; i++) {
    const float shifted = from[i] * inverse + 12582912.f;  // 1.5 * 2^23: the low bits are the nearest integer
    uint32_t bits;
    memcpy(&bits, &shifted, 4);
    codes[i] = (uint8_t)bits;
  }
}

void write_row(const Cache &cache, const float *latent, const float *key, uint8_t *row) {
  const int64_t C = cache.latent, R = cache.key;
  if (cache.format == LATENT_CACHE_F32) {
    memcpy(row, latent, C * 4);
    memcpy(row + C * 4, key, R * 4);
  } else if (cache.format == LATENT_CACHE_BF16) {
    narrow(latent, C, row);
    narrow(key, R, row + C * 2);
  } else {
    uint8_t *scales = row + R * 2, *codes = scales + cache.scales() * 2;
    narrow(key, R, row);
    for (int64_t c = 0; c < C; c += scaled) {
      quantize(latent + c, std::min<int64_t>(scaled, C - c), scales + c / scaled * 2, codes + c);
    }
  }
}

void read_row(const AttentionKernels &k, const Cache &cache, const uint8_t *row, float *latent, float *key) {
  const int64_t C = cache.latent, R = cache.key;
  if (cache.format == LATENT_CACHE_F32) {
    memcpy(latent, row, C * 4);
    memcpy(key, row + C * 4, R * 4);
  } else if (cache.format == LATENT_CACHE_BF16) {
    k.widen_bf16(row, C, latent);
    k.widen_bf16(row + C * 2, R, key);
  } else {
    const uint8_t *scales = row + R * 2;
    k.widen_bf16(row, R, key);
    k.widen_codes((const int8_t *)scales + cache.scales() * 2, scales, C, latent);
  }
}

}  // namespace

void Cache::read(const AttentionKernels &k, int layer, const int32_t *table, int from, int count, float *latents,
                 int64_t latent_stride, float *keys, int64_t key_stride) const {
  for (int done = 0; done < count;) {
    const int position = from + done, offset = position % page_size;
    const int n = std::min(count - done, page_size - offset);
    const uint8_t *at = row(layer, (int64_t)table[position / page_size] * page_size + offset);
    for (const int end = done + n; done < end; done++, at += row_bytes()) {
      read_row(k, *this, at, latents + done * latent_stride, keys + done * key_stride);
    }
  }
}

}  // namespace cpu

latent_cache *latent_cache_open(latent *on, int layers, int pages, int page_size, int latent_width, int key_width, int format) {
  if (format != LATENT_CACHE_F32 && format != LATENT_CACHE_BF16 && format != LATENT_CACHE_Q8) {
    on->error = "latents are kept as f32, bf16 or q8";
    return nullptr;
  }
  auto *cache = new latent_cache;
  static_cast<cpu::Cache &>(*cache) = {layers, pages, page_size, latent_width, key_width, format, nullptr};
  const size_t bytes = (size_t)layers * pages * page_size * cache->row_bytes();
  cache->data = cpu::allocate(bytes);
  if (cache->data) return cache;
  on->error = "no memory for a latent cache of " + std::to_string(bytes) + " bytes";
  delete cache;
  return nullptr;
}

void latent_cache_close(latent *, latent_cache *cache) {
  if (!cache) return;
  cpu::release(cache->data);
  delete cache;
}

int latent_store(latent *on, latent_cache *cache, int layer, const int32_t *slots, int T, const float *latents,
                 const float *keys) {
  for (int t = 0; t < T; t++) {
    if (slots[t] >= 0 && slots[t] < (int64_t)cache->pages * cache->page_size) continue;
    on->error = "slot " + std::to_string(slots[t]) + " is outside the cache";
    return 1;
  }
  constexpr int each = 16;
  on->pool.run((T + each - 1) / each, [&](int64_t part) {
    for (int64_t t = part * each; t < T && t < (part + 1) * each; t++) {
      cpu::write_row(*cache, latents + t * cache->latent, keys + t * cache->key, cache->row(layer, slots[t]));
    }
  });
  return 0;
}
