// Kernels that compute each element by itself.

#pragma once

#include <algorithm>
#include <cmath>

#include "parameters.h"

namespace host {

template <typename To, typename From>
void cast(Grid, const From* input, To* output, Nothing, long count) {
  std::copy_n(input, count, output);
}

template <typename Type, bool left_moves, bool right_moves>
void add(Grid, const Type* left, const Type* right, Type* output, Nothing, int count) {
  for (int id = 0; id < count; ++id) output[id] = left[left_moves * id] + right[right_moves * id];
}

template <typename Type>
void broadcast_bias(Grid, const Type* bias, Type* output, long count, DivMod columns,
                    int row_stride, int column_stride, Type) {
  for (long id = 0; id < count; ++id)
    output[id] = bias[id / columns.by * row_stride + id % columns.by * column_stride];
}

template <typename Type, typename Number>
void fast_gelu(Grid, Number constant, Number linear, Number cubic, int count, int biases,
               const Type* input, const Type* bias, Type* output) {
  const float a = constant, b = linear, c = cubic;
  for (int id = 0; id < count; ++id) {
    const float x = input[id] + (bias ? bias[id % biases] : Type());
    output[id] = x * (a + a * std::tanh(x * (c * x * x + b)));
  }
}

struct HalfPair {
  half first, second;
};
inline void fast_gelu_of_pairs(Grid grid, HalfPair constant, HalfPair linear, HalfPair cubic,
                               int count, int biases, const HalfPair* input, const HalfPair* bias,
                               HalfPair* output) {
  fast_gelu(grid, constant.first, linear.first, cubic.first, 2 * count, 2 * biases, &input->first,
            bias ? &bias->first : nullptr, &output->first);
}

}  // namespace host
