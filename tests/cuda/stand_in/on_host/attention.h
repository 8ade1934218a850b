// Attention's kernels of ONNX's operator, in float.

#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "parameters.h"
#include "rows.h"

namespace host {

// Of CUTLASS's attention. Keys and values are BxNxSxH, with room for S positions, of which
// `seqlen_k` of a row are filled; queries and output are BxSxNxH. Strides are in elements.
struct AttentionParams {
  float *query, *key, *value, *bias;
  int32_t *seqstart_q, *seqstart_k, *seqlen_k;
  uint32_t causal_diagonal_offset;
  float *output, *output_accumulator, *logsumexp;
  int32_t window_size;
  float scale, softcap;
  int32_t head_dim, head_dim_value, num_queries, num_keys, num_keys_absolute;
  uint8_t custom_mask_type;
  int32_t q_strideM, k_strideM, v_strideM, bias_strideM, o_strideM;
  int32_t q_strideH, k_strideH, v_strideH;
  int64_t bias_strideH, q_strideB, k_strideB, v_strideB, bias_strideB;
  int32_t num_batches, num_heads;
  bool use_smooth_softmax;
};

// Of a query, scaled: the keys' and values' rows lie a pitch apart.
template <typename Type>
void attend(const Type* query, const Type* keys, const Type* values, long pitch, int count,
            int width, float scale, Type* output) {
  std::vector<float> weights(count), sums(width);
  for (int key = 0; key < count; ++key)
    weights[key] = scale * std::inner_product(query, query + width, keys + key * pitch, 0.0f);
  log_softmax(weights.data(), count, weights.data());
  for (int key = 0; key < count; ++key) {
    const float weight = std::exp(weights[key]);
    for (int at = 0; at < width; ++at) sums[at] += weight * values[key * pitch + at];
  }
  std::copy(sums.begin(), sums.end(), output);
}

inline void lengths(Grid, const long* filled, int* output, int rows, int capacity) {
  for (int row = 0; row < rows; ++row)
    output[row] = std::clamp(filled[row], 0L, static_cast<long>(capacity));
}

// A query sees nothing before the row's first key; what comes of that, ZeroFullyMaskedRows mends.
inline void attention(Grid grid, AttentionParams of) {
  const bool as_launched = of.num_heads == static_cast<int>(grid.blocks.y) &&
                           of.num_batches == static_cast<int>(grid.blocks.z);
  expect(as_launched, "the attention of the ONNX Runtime it was written for");
  const int causal_from_bottom_right = 2;
  expect(of.custom_mask_type == causal_from_bottom_right && of.seqlen_k && !of.bias &&
             of.window_size <= 0 && of.softcap == 0 && !of.use_smooth_softmax &&
             of.v_strideM == of.k_strideM && of.head_dim_value == of.head_dim,
         "causal attention without a bias");
  for (long row = 0; row < of.num_batches; ++row)
    for (long head = 0; head < of.num_heads; ++head)
      for (long at = 0; at < of.num_queries; ++at) {
        const long position = row * of.num_queries + at;
        const float* query = of.query + position * of.q_strideM + head * of.q_strideH;
        const float* keys = of.key + row * of.k_strideB + head * of.k_strideH;
        const float* values = of.value + row * of.v_strideB + head * of.v_strideH;
        const int seen = of.seqlen_k[row] - of.num_queries + static_cast<int>(at) + 1;
        float* output = of.output + position * of.o_strideM + head * of.head_dim;
        attend(query, keys, values, of.k_strideM, std::max(seen, 0), of.head_dim, of.scale, output);
      }
}

inline void zero_empty_rows(Grid, float* output, const int* filled, int rows, long width) {
  for (long row = 0; row < rows; ++row)
    if (!filled[row]) std::fill_n(output + row * width, width, 0.0f);
}

// Output BxSxNxH.
inline void zero_masked_queries(Grid, float* output, const float* bias, const int* filled, int rows,
                                int heads, int queries, int, int width, bool causal,
                                bool from_top_left, int, int, float) {
  expect(!bias && causal && !from_top_left && filled, "causal attention without a bias");
  const long size = static_cast<long>(heads) * width;
  for (long row = 0; row < rows; ++row)
    for (long at = 0; at < queries; ++at)
      if (filled[row] - queries + at + 1 <= 0)
        std::fill_n(output + (row * queries + at) * size, size, 0.0f);
}

}  // namespace host
