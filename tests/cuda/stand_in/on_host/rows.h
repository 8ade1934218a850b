// Kernels that compute each row by itself: norms, softmaxes, the largest.

#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "parameters.h"

namespace host {

template <typename Type, typename Output>
void normalize(const Type* input, const Output* gamma, const Output* beta, float epsilon, int width,
               Output* output) {
  const float mean = std::accumulate(input, input + width, 0.0f) / width;
  float squares = 0;
  for (int at = 0; at < width; ++at) squares += (input[at] - mean) * (input[at] - mean);
  const float scale = 1 / std::sqrt(squares / width + epsilon);
  for (int at = 0; at < width; ++at)
    output[at] = (input[at] - mean) * scale * (gamma ? gamma[at] : 1) + (beta ? beta[at] : 0);
}

template <typename Type>
void layer_norm(Grid, Type* output, float* means, float* deviations, const Type* input, int rows,
                int width, float epsilon, const Type* gamma, const Type* beta, int broadcast,
                const Type* skip, const Type* bias, Type* sum) {
  expect(!means && !deviations && !broadcast && !skip && !bias && !sum,
         "LayerNormalization of one input to one output");
  for (long row = 0; row < rows; ++row)
    normalize(input + row * width, gamma, beta, epsilon, width, output + row * width);
}

template <typename Type>
void skip_layer_norm(Grid grid, Type* output, Type* sums, const Type* input, const Type* skip,
                     const Type* bias, const Type* gamma, const Type* beta, float epsilon,
                     int width, int skip_size) {
  std::vector<float> sum(width);
  for (long row = 0; row < grid.blocks.x; ++row) {
    for (long at = 0, id = row * width; at < width; ++at, ++id)
      sum[at] = static_cast<float>(input[id]) + skip[id % skip_size] + (bias ? bias[at] : 0);
    if (sums) std::copy(sum.begin(), sum.end(), sums + row * width);
    normalize(sum.data(), gamma, beta, epsilon, width, output + row * width);
  }
}

inline void log_softmax(const float* input, long width, float* output) {
  const float largest = *std::max_element(input, input + width);
  float sum = 0;
  for (long at = 0; at < width; ++at) sum += std::exp(input[at] - largest);
  for (long at = 0; at < width; ++at) output[at] = input[at] - largest - std::log(sum);
}
inline void log_softmax_of_small(Grid, float* output, const float* input, int rows, int stride,
                                 int width) {
  for (long row = 0; row < rows; ++row)
    log_softmax(input + row * stride, width, output + row * stride);
}
inline void log_softmax_of_large(Grid grid, float* output, float* input, int width,
                                 int input_stride, int output_stride) {
  for (long row = 0; row < grid.blocks.x; ++row)
    log_softmax(input + row * input_stride, width, output + row * output_stride);
}

// Of equals, those come first that lie first.
inline void top_k(Grid grid, const float* input, float* values, int64_t* ids, TArray<long>,
                  unsigned long rank, int axis, long count, long largest, long, long width, long,
                  float, float) {
  expect(largest == 1 && axis + 1 == static_cast<int>(rank), "TopK of the largest in a row");
  std::vector<long> order(width);
  for (long row = 0; row < grid.blocks.x; ++row) {
    const float* of = input + row * width;
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + count, order.end(), [=](long a, long b) {
      return of[a] > of[b] || (of[a] == of[b] && a < b);
    });
    for (long at = 0; at < count; ++at) {
      ids[row * count + at] = order[at];
      values[row * count + at] = of[order[at]];
    }
  }
}

// The same for large vocabularies, in three: the largest of each part of a row; of all parts
// together; and out with them. In between lie `count` of each row and part.
template <int size, int count>
void top_k_of_parts(Grid grid, const float* input, float* values, int* ids, int width, int parts) {
  for (long row = 0; row < grid.blocks.y; ++row)
    for (int part = 0; part < parts; ++part) {
      std::vector<int> order(std::min(size, width - part * size));
      std::iota(order.begin(), order.end(), part * size);
      const float* of = input + row * width;
      std::stable_sort(order.begin(), order.end(), [=](int a, int b) { return of[a] > of[b]; });
      for (int at = 0; at < count; ++at) {
        const long to = (row * parts + part) * count + at;
        const bool is = at < static_cast<int>(order.size());
        values[to] = is ? of[order[at]] : -INFINITY;
        ids[to] = is ? order[at] : INT32_MAX;
      }
    }
}

template <int count>
void top_k_of_all_parts(Grid grid, int* part_ids, float* part_values, int* ids, float* values,
                        int parts) {
  std::vector<int> order(parts * count);
  for (long row = 0; row < grid.blocks.y; ++row) {
    const float* of = part_values + row * parts * count;
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [=](int a, int b) { return of[a] > of[b]; });
    for (int at = 0; at < count; ++at) {
      values[row * count + at] = of[order[at]];
      ids[row * count + at] = part_ids[row * parts * count + order[at]];
    }
  }
}

inline void write_top_k(Grid, const float* input, const int* ids, float* values,
                        int64_t* output_ids, int rows, int width, int count, int stride) {
  expect(count == stride, "TopK of as many as lie in between");
  std::copy_n(ids, rows * count, output_ids);
  for (long at = 0; at < rows * count; ++at) values[at] = input[at / count * width + ids[at]];
}

}  // namespace host
