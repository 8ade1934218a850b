// Kernels of matrices whose blocks of numbers have a scale each: GatherBlockQuantized, MatMulNBits.

#pragma once

#include <vector>

#include "parameters.h"

namespace host {

// Without zero points of their own, all stand for what is in the middle.
template <int bits>
float number(const uint8_t* data, long at) {
  const int shift = at % (8 / bits) * bits, mask = (1 << bits) - 1;
  return ((data[at / (8 / bits)] >> shift) & mask) - (1 << (bits - 1));
}

inline void gather_quantized(Grid, const uint8_t* data, const int64_t* indices, const half* scales,
                             const uint8_t* zeros, half* output, long width, long size, long count,
                             long bits, long block, long axis, long total, bool is_signed) {
  expect(!zeros && !is_signed && axis == 0 && (bits == 8 || bits == 4) && total == count * width,
         "GatherBlockQuantized of rows in 4 or 8 bits");
  for (long id = 0; id < total; ++id) {
    const long index = indices[id / width];
    const long from = (index + (index < 0) * size) * width + id % width;
    const float value = bits == 8 ? number<8>(data, from) : number<4>(data, from);
    output[id] = value * scales[from / block];
  }
}

// output = inputs times matrix transposed: [rows, depth], [columns, depth] -> [rows, columns].
template <int bits, int block>
void multiply_quantized(Grid, half* output, const half* inputs, const uint8_t* matrix,
                        const half* scales, const uint8_t* zeros, int rows, int columns, int depth,
                        int blocks) {
  expect(!zeros && blocks * block == depth, "MatMulNBits of whole blocks without zero points");
  for (long column = 0; column < columns; ++column) {
    std::vector<float> numbers(depth);
    for (int at = 0; at < depth; ++at)
      numbers[at] =
          number<bits>(matrix, column * depth + at) * scales[column * blocks + at / block];
    for (long row = 0; row < rows; ++row) {
      float sum = 0;
      for (int at = 0; at < depth; ++at) sum += inputs[row * depth + at] * numbers[at];
      output[row * columns + column] = sum;
    }
  }
}
template <int bits, int block>
void multiply_quantized_by_a_row(Grid grid, half* output, const half* input, const uint8_t* matrix,
                                 const half* scales, const uint8_t* zeros, int columns, int depth,
                                 int blocks) {
  multiply_quantized<bits, block>(grid, output, input, matrix, scales, zeros, 1, columns, depth,
                                  blocks);
}

inline void dequantize_8_bits(Grid, half* output, const uint8_t* matrix, const half* scales,
                              const uint8_t* zeros, int block, int, int blocks) {
  expect(!zeros, "MatMulNBits without zero points");
  for (long at = 0; at < static_cast<long>(blocks) * block; ++at)
    output[at] = number<8>(matrix, at) * scales[at / block];
}
inline void dequantize_4_bits(Grid, half* output, const uint8_t* matrix, const half* scales,
                              const uint8_t* zeros, int block, int, int, int blocks) {
  expect(!zeros, "MatMulNBits without zero points");
  for (long at = 0; at < static_cast<long>(blocks) * block; ++at)
    output[at] = number<4>(matrix, at) * scales[at / block];
}

inline void add_bias(Grid, half* output, const half* bias, int width, long count) {
  for (long at = 0; at < count; ++at) output[at] += bias[at % width];
}

}  // namespace host
