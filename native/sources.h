// Weights made up in every number format: what check.cc and bench.cc feed a library with.
#pragma once
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "ops.h"

struct Source {
  int dtype;
  const char *name;
  int block, bytes;
  std::vector<int> halves;  // where a block keeps half floats, which must stay finite
};

inline const std::vector<Source> sources = {
    {LATENT_F32, "f32", 1, 4, {}},         {LATENT_F16, "f16", 1, 2, {0}},       {LATENT_BF16, "bf16", 1, 2, {}},
    {LATENT_F8_E4M3, "fp8", 1, 1, {}},     {LATENT_Q8_0, "q8_0", 32, 34, {0}},   {LATENT_Q4_0, "q4_0", 32, 18, {0}},
    {LATENT_Q4_1, "q4_1", 32, 20, {0, 2}}, {LATENT_Q5_0, "q5_0", 32, 22, {0}},   {LATENT_Q5_1, "q5_1", 32, 24, {0, 2}},
    {LATENT_IQ4_NL, "iq4_nl", 32, 18, {0}}, {LATENT_Q2_K, "q2_k", 256, 84, {80, 82}}, {LATENT_Q3_K, "q3_k", 256, 110, {108}},
    {LATENT_Q4_K, "q4_k", 256, 144, {0, 2}}, {LATENT_Q5_K, "q5_k", 256, 176, {0, 2}}, {LATENT_Q6_K, "q6_k", 256, 210, {208}},
    {LATENT_IQ4_XS, "iq4_xs", 256, 136, {0}}};

inline std::mt19937 dice(7);
inline float uniform() { return std::uniform_real_distribution<float>(-1, 1)(dice); }

inline std::vector<float> floats(size_t count) {
  std::vector<float> values(count);
  for (float &v : values) v = uniform();
  return values;
}

inline std::vector<uint8_t> weights(const Source &s, size_t count) {
  std::vector<uint8_t> bytes(count / s.block * s.bytes);
  for (uint8_t &b : bytes) b = (uint8_t)dice();
  for (size_t at = 0; at < bytes.size(); at += s.bytes) {
    if (s.dtype == LATENT_F32) {
      const float v = uniform();
      std::memcpy(&bytes[at], &v, 4);
    }
    if (s.dtype == LATENT_BF16) bytes[at + 1] = (uint8_t)(0x3d | (bytes[at + 1] & 0x80));
    if (s.dtype == LATENT_F8_E4M3) bytes[at] %= 0x70;
    for (int field : s.halves) bytes[at + field + 1] = (uint8_t)(0x1c + dice() % 8);
  }
  return bytes;
}
