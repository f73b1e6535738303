// The contract of src/backend/backend.ts in C: what a native library gives latent. The CPU library and the CUDA library
// both implement it, src/backend/native.ts binds either, and native/check.cc replays its cases against either.
//
// [T] rows of the step, [D] hidden, [N] out, [H] heads, [A] no-rope head, [R] rope head, [B] value head, [C] latent,
// [E] experts, [K] experts a token, [F] expert width, [V] vocabulary. Activations are f32 in the library's own memory
// (latent_alloc). Index arrays (tokens, positions, slots, starts, tables) are host memory and read before the call
// returns. Functions that return int give 0, or another number with latent_error() saying why.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LATENT_ABI 2

// Number formats, as the rows of src/tensor/dtype.ts.
enum latent_dtype {
  LATENT_F32 = 0,
  LATENT_F16 = 1,
  LATENT_BF16 = 2,
  LATENT_F8_E4M3 = 3,
  LATENT_I32 = 4,
  LATENT_Q8_0 = 5,
  LATENT_Q4_0 = 6,
  LATENT_Q4_1 = 7,
  LATENT_Q5_0 = 8,
  LATENT_Q5_1 = 9,
  LATENT_IQ4_NL = 10,
  LATENT_Q2_K = 11,
  LATENT_Q3_K = 12,
  LATENT_Q4_K = 13,
  LATENT_Q5_K = 14,
  LATENT_Q6_K = 15,
  LATENT_IQ4_XS = 16,
};

// How a token's latent and rope key are kept (src/backend/latents.ts says what each format means).
enum latent_cache_format {
  LATENT_CACHE_F32 = LATENT_F32,
  LATENT_CACHE_BF16 = LATENT_BF16,
  LATENT_CACHE_Q8 = 64,  // latents as 8-bit integers with a bf16 scale for 64 of them, keys as bf16
};

typedef struct latent latent;                // an opened library
typedef struct latent_weight latent_weight;  // a matrix or a bank of matrices, in the library's own layout
typedef struct latent_cache latent_cache;    // the paged latent cache of all layers

int latent_abi(void);
// `features`: the most advanced instruction set to use ("scalar", "avx2", "avx512", "amx"), "" for the best there is.
// `threads` 0: one for each core. `pin` non-zero: thread i stays on core i. Returns null on failure.
latent *latent_open(int threads, const char *features, int pin);
void latent_close(latent *on);
const char *latent_error(const latent *on);
// What was found and what is used, one `key: value` a line.
const char *latent_describe(const latent *on);
// What this machine can do at most, measured now on this library's threads: "read" (GB/s of memory), or billions of
// operations a second, a multiply-add being two: "f32", "bf16", "int8" (of vectors), "amx-bf16", "amx-int8" (of tiles).
// 0 where the machine has not got it. Benchmarks call it, models do not: it takes a tenth of a second, and "read" keeps
// a gigabyte of memory.
double latent_ceiling(latent *on, const char *what);

void *latent_alloc(latent *on, size_t bytes);
void latent_free(latent *on, void *memory);
int latent_write(latent *on, void *to, const void *host, size_t bytes);
// Waits for what was asked before, then copies.
int latent_read(latent *on, const void *from, void *host, size_t bytes);

// [.. N D] row-major of `dtype`, with block scales [.. ceil(N/128) ceil(D/128)] for fp8 (null otherwise). Copies.
latent_weight *latent_upload(latent *on, int dtype, int rank, const int64_t *shape, const void *data,
                             const float *scales);
// The same without a copy: `count` pieces of as many rows each, in order, which stay as they are until the weight is
// released; the library reads them when it first needs them. Pieces of a mapped file come with an open descriptor each
// and where they are in it (null and null otherwise): to read is cheaper than to fault pages in. Scales are copied.
latent_weight *latent_borrow(latent *on, int dtype, int rank, const int64_t *shape, const void *const *pieces, int count,
                             const int *files, const int64_t *offsets, const float *scales);
void latent_release(latent *on, latent_weight *weight);

int latent_embed(latent *on, const latent_weight *table, const int32_t *tokens, int T, float *y);  // [V D], [T] -> [T D]
int latent_linear(latent *on, const float *x, int T, const latent_weight *w, float *y);  // [T D], [N D] -> [T N]
int latent_rms_norm(latent *on, const float *x, int T, int D, const float *gain, float eps, float *y);
int latent_rope(latent *on, const float *x, int T, int H, int R, const int32_t *positions,
                const double *frequencies, float factor, float *y);  // [T H R] interleaved pairs
int latent_add(latent *on, float *x, const float *y, int64_t count);
int latent_swiglu(latent *on, const float *gate, const float *up, int64_t count, float *y);
int latent_pick(latent *on, const float *x, int D, const int32_t *rows, int R, float *y);
int latent_route(latent *on, const float *scores, int T, int E, int top, int groups, int top_groups, int normalize,
                 float scale, int32_t *experts, float *weights);  // [T E] -> [T K], [T K]
int latent_experts(latent *on, const float *x, int T, const int32_t *experts, const float *weights, int K,
                   const latent_weight *gate, const latent_weight *up, const latent_weight *down, float *y);

latent_cache *latent_cache_open(latent *on, int layers, int pages, int page_size, int latent_width, int key_width,
                                int format);  // of enum latent_cache_format
void latent_cache_close(latent *on, latent_cache *cache);
int latent_store(latent *on, latent_cache *cache, int layer, const int32_t *slots, int T, const float *latents,
                 const float *keys);
// Causal attention of each row over its own sequence's pages. q [T H A], q_rope [T H R], key_up [H C A], value_up
// [H B C] -> [T H B]. `starts` [runs + 1], `positions` [T], `tables` [runs, table_width].
int latent_attend(latent *on, const float *q, const float *q_rope, const latent_weight *key_up,
                  const latent_weight *value_up, latent_cache *cache, int layer, const int32_t *starts,
                  const int32_t *positions, const int32_t *tables, int runs, int table_width, float scale, float *y);

#ifdef __cplusplus
}
#endif
