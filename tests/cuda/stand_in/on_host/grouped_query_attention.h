// GroupQueryAttention's kernels, in half precision.

#pragma once

#include <algorithm>

#include "attention.h"
#include "parameters.h"

namespace host {

// Of flash attention. Strides in elements.
struct FlashParams {
  half *query, *keys, *values;
  int64_t q_row, k_row, v_row, q_token, k_token, v_token, q_head, k_head, v_head;
  int heads, kv_heads, queries_a_key;
  half* output;
  float* output_accumulator;
  int64_t o_row, o_token, o_head;
  void *probabilities, *logsumexp, *logsumexp_accumulator;
  int rows, queries, capacity, new_keys, width, rounded[3], rotary, total_queries;
  float scale, scale_log2;
  int *starts_q, *starts_k, *filled;
};

// Of each row, from where its last token lies: `longest`, told on the host, is none longer than.
inline void sequence_lengths(Grid, const int* last, int* past, int* total, int* padded,
                             int* of_window, int*, int*, int rows, int length, bool first_prompt,
                             int longest, int, int) {
  expect(!of_window, "GroupQueryAttention without a window");
  for (int row = 0; row < rows; ++row) {
    total[row] = std::min(std::max(last[row], 0) + 1, longest);
    past[row] = first_prompt ? 0 : std::max(total[row] - length, 0);
    padded[row] = first_prompt ? length : 0;
  }
}

// Queries, keys and values side by side, [row, length, 3, heads, width]: the queries go on by
// themselves, the others into the cache, [row, heads, capacity, width].
inline void unpack_and_append(Grid grid, const half* packed, const half*, const half*, const half*,
                              half* queries, half* keys, half* values, const float* key_scale,
                              const float*, const float*, int heads, int kv_heads, int width,
                              int pitch, int capacity, int, const int* past, const int*,
                              const half*, const half*, int rotary, const long*, bool,
                              bool heads_first, bool, const half* norm, const half*, float) {
  expect(packed && queries && !key_scale && kv_heads == heads && !rotary && heads_first && !norm,
         "GroupQueryAttention of packed inputs with as many keys, as they are");
  const long length = grid.blocks.x;
  for (long row = 0; row < grid.blocks.z; ++row)
    for (long at = 0; at < length; ++at)
      for (long head = 0; head < heads; ++head) {
        const half* from = packed + (row * length + at) * pitch + head * width;
        std::copy_n(from, width, queries + ((row * length + at) * heads + head) * width);
        expect(past[row] + at < capacity, "what fits into the cache");
        const long to = ((row * heads + head) * capacity + past[row] + at) * width;
        std::copy_n(from + heads * width, width, keys + to);
        std::copy_n(from + 2 * heads * width, width, values + to);
      }
}

// Causal from the bottom right.
inline void flash_attention(FlashParams of) {
  expect(of.kv_heads == of.heads && of.filled, "flash attention with as many keys");
  for (long row = 0; row < of.rows; ++row)
    for (long head = 0; head < of.heads; ++head)
      for (long at = 0; at < of.queries; ++at) {
        const int seen = of.filled[row] - of.queries + static_cast<int>(at) + 1;
        attend(of.query + row * of.q_row + at * of.q_token + head * of.q_head,
               of.keys + row * of.k_row + head * of.k_head,
               of.values + row * of.v_row + head * of.v_head, of.k_token, std::max(seen, 0),
               of.width, of.scale, of.output + row * of.o_row + at * of.o_token + head * of.o_head);
      }
}
inline void flash_attention_at_once(Grid grid, FlashParams of) {
  expect(of.rows == static_cast<int>(grid.blocks.y) && of.heads == static_cast<int>(grid.blocks.z),
         "the flash attention of the ONNX Runtime it was written for");
  flash_attention(of);
}
// A device attends to parts of the keys and combines them; here there is nothing to combine.
inline void flash_attention_in_parts(Grid grid, FlashParams of) {
  expect(of.rows * of.heads == static_cast<int>(grid.blocks.z),
         "the flash attention of the ONNX Runtime it was written for");
  flash_attention(of);
}
inline void combine_flash_attention(Grid, FlashParams) {}

// XQA's, [row, heads, capacity, width]; `lengths` of what was there before, to which `more` come.
struct KeysAndValues {
  half *keys, *values;
  const uint32_t* lengths;
  uint32_t capacity;
  bool tokens_first;
  uint32_t more;
};
inline void attention_of_a_token(Grid grid, unsigned heads, unsigned window, float scale,
                                 half* output, const half* query, const float* sinks,
                                 KeysAndValues of, unsigned rows, const float* cache_scale,
                                 const float*, unsigned*, void*) {
  expect(heads == grid.blocks.y && rows == grid.blocks.z && window >= of.capacity && !sinks &&
             !of.tokens_first && !cache_scale,
         "attention without a window and sinks");
  const int width = 64;
  for (long row = 0; row < rows; ++row)
    for (long head = 0; head < heads; ++head) {
      const long at = row * heads + head, from = at * of.capacity * width;
      const int count = std::min(of.lengths[row] + of.more, of.capacity);
      attend(query + at * width, of.keys + from, of.values + from, width, count, width, scale,
             output + at * width);
    }
}

}  // namespace host
