// Matrix products: y = x w^T. A task is a few panels of w against all rows of x: panels stay in the first cache while
// the rows pass.
#include "cpu.h"

namespace cpu {

Quantized quantized_rows(Library &on, int T, int64_t D) {
  return {on.scratch.take<int8_t>((size_t)T * D), on.scratch.take<float>((size_t)T * (D / block)),
          on.scratch.take<int32_t>((size_t)T * (D / block) * 2)};
}

void quantize_row(Library &on, const float *x, int64_t t, int64_t D, const Quantized &q) {
  on.k->quantize(x + t * D, D, q.values + t * D, q.scales + t * (D / block), q.sums + t * (D / block) * 2);
}

Quantized quantize_rows(Library &on, const float *x, int T, int64_t D) {
  const Quantized q = quantized_rows(on, T, D);
  on.pool.run((T + 7) / 8, [&](int64_t part) {
    for (int64_t t = part * 8; t < T && t < part * 8 + 8; t++) quantize_row(on, x, t, D, q);
  });
  return q;
}

void linear(Library &on, const float *x, int T, const Weight &w, int64_t matrix, float *y, int64_t stride) {
  ready(on, w, matrix);
  Quantized q{};
  if (w.quantized()) q = quantize_rows(on, x, T, w.D);
  const Rows rows{x, &q, w.D, nullptr, T};
  const int64_t panels = w.panels(), each = panels / (8 * on.pool.threads()) + 1;
  on.pool.run((panels + each - 1) / each, [&](int64_t part) {
    for (int64_t p = part * each; p < panels && p < (part + 1) * each; p++) {
      const int width = (int)(w.N - p * lanes < lanes ? w.N - p * lanes : lanes);
      on.k->panel(w.layout, w.panel(matrix, p), rows, y + p * lanes, stride, width);
    }
  });
}

void head_linear(Library &on, const float *x, int T, const Weight &w, float *y) {
  const int64_t H = w.matrices;
  ready(on, w);
  Quantized q{};
  if (w.quantized()) q = quantize_rows(on, x, (int)(T * H), w.D);
  auto *index = on.scratch.take<int32_t>((size_t)T * H);
  for (int64_t h = 0; h < H; h++) {
    for (int t = 0; t < T; t++) index[h * T + t] = (int32_t)(t * H + h);
  }
  const int64_t each = 8, parts = (w.panels() + each - 1) / each;
  on.pool.run(H * parts, [&](int64_t task) {
    const int64_t h = task / parts;
    const Rows rows{x, &q, w.D, index + h * T, T};
    for (int64_t p = task % parts * each; p < w.panels() && p < (task % parts + 1) * each; p++) {
      const int width = (int)(w.N - p * lanes < lanes ? w.N - p * lanes : lanes);
      on.k->panel(w.layout, w.panel(h, p), rows, y + h * w.N + p * lanes, H * w.N, width);
    }
  });
}

}  // namespace cpu

int latent_linear(latent *on, const float *x, int T, const latent_weight *w, float *y) {
  on->scratch.reset();
  cpu::linear(*on, x, T, *w, 0, y, w->N);
  return 0;
}
