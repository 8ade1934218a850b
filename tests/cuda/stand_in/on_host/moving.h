// Kernels that look up, cut out, move and append.

#pragma once

#include <algorithm>

#include "parameters.h"

namespace host {

// What OffsetCalculator tells of GatherElements' indices, the axis left out.
struct Offsets {
  int rank;
  TArray<DivMod> index_strides;
  TArray<int> input_strides, strides_of_indices;
  int operator()(int index) const {
    int offset = 0;
    for (int dim = 0; dim < rank; ++dim) {
      const int by = index_strides.data[dim].by;
      offset += index / by * input_strides.data[dim];
      index %= by;
    }
    return offset;
  }
};
struct OffsetsOfRows {
  DivMod indices_row;
  int input_row;
  TArray<int> strides_of_indices;
  int operator()(int index) const { return index / static_cast<int>(indices_row.by) * input_row; }
};

template <typename Type>
void gather(Grid, long input_block, long size, DivMod output_block, DivMod block,
            const void* indices, unsigned long index_bytes, const Type* input, Type* output,
            int count) {
  expect(index_bytes == 8, "Gather by int64");
  for (int id = 0; id < count; ++id) {
    const int inside = id % output_block.by;
    long index = static_cast<const int64_t*>(indices)[inside / block.by];
    if (index < 0) index += size;
    const long from = id / output_block.by * input_block + index * block.by + inside % block.by;
    output[id] = index >= 0 && index < size ? input[from] : Type();
  }
}

template <typename OffsetsOf>
void gather_elements(Grid, const float* input, const int64_t* indices, float* output, long size,
                     long stride, OffsetsOf offset_of, Nothing, int count) {
  for (int id = 0; id < count; ++id) {
    const long index = indices[id] + (indices[id] < 0) * size;
    if (index >= 0 && index < size) output[id] = input[offset_of(id) + index * stride];
  }
}

// Values of 4 bytes are ints, of 2 shorts. The last dimension isn't among the strides.
template <typename Type>
void slice_rows(Grid, TArray<long> starts, TArray<long> steps, TArray<long> input_strides,
                TArray<DivMod> output_strides, const Type* input, Type* output, int count) {
  const int width = output_strides.data[0].by;
  for (int id = 0; id < count; ++id) {
    const long row = starts.data[0] + id / width * steps.data[0];
    output[id] = input[row * input_strides.data[0] + starts.data[1] + id % width * steps.data[1]];
  }
}

inline void split(Grid, DivMod with_axis, DivMod inside_axis, DivMod part, int, const int* input,
                  TArray<void*, 32> outputs, int count) {
  for (int id = 0; id < count; ++id) {
    const int outer = id / with_axis.by, rest = id % with_axis.by;
    const int place = rest / inside_axis.by, inside = rest % inside_axis.by;
    const int to = (outer * part.by + place % part.by) * inside_axis.by + inside;
    static_cast<int*>(outputs.data[place / part.by])[to] = input[id];
  }
}

// A thread moves 16 bytes; strides are in elements, those of the last dimension in 16 bytes.
inline void transpose_4d(Grid grid, TArray<long> input_strides, const void* input,
                         TArray<long> output_strides, void* output, long rows, int) {
  const auto place = [](const TArray<long>& strides, long i, long j, long k, long l) {
    const long* by = strides.data;
    return (i * by[0] + j * by[1] + k * by[2]) / 4 + l * by[3];
  };
  for (unsigned i = 0; i < grid.blocks.z; ++i)
    for (unsigned j = 0; j < grid.blocks.y; ++j)
      for (long k = 0; k < rows; ++k)
        for (unsigned l = 0; l < grid.threads.x; ++l)
          static_cast<int4*>(output)[place(output_strides, i, j, k, l)] =
              static_cast<const int4*>(input)[place(input_strides, i, j, k, l)];
}

// [rows][first][second][width] -> [rows][second][first][width].
template <typename Type>
void swap_middle(long rows, long first, long second, int width, const Type* input, Type* output) {
  for (long row = 0; row < rows; ++row)
    for (long i = 0; i < first; ++i)
      for (long j = 0; j < second; ++j)
        std::copy_n(input + ((row * first + i) * second + j) * width, width,
                    output + ((row * second + j) * first + i) * width);
}

// BxNxSxH -> BxSxNxH; `width` is H in Type.
template <typename Type>
void transpose_context(Grid grid, int width, bool reversed, const Type* input, Type* output) {
  expect(!reversed, "TransposeCtx to BxSxNxH");
  const long length = grid.blocks.x, rows = grid.blocks.y, heads = grid.threads.y;
  swap_middle(rows, heads, length, width, input, output);
}

// BxSxNxH -> BxNxSxH, of one matrix alone.
template <typename Type>
void transpose_qkv(Grid grid, int width, bool reversed, const Type* input, Type* output,
                   int matrices) {
  expect(!reversed && matrices == 1, "TransposeQKV of one BxSxNxH");
  const long length = grid.blocks.x, rows = grid.blocks.y, heads = grid.threads.y;
  swap_middle(rows, length, heads, width, input, output);
}

// Writes `length` new positions of each prefix into the cache's `capacity`.
inline void tensor_scatter(Grid, int* output, const int* update, const long* starts, long,
                           long prefixes_of_row, long capacity, long length, long width,
                           unsigned long count) {
  for (unsigned long id = 0; id < count; ++id) {
    const long prefix = id / (length * width), inside = id % (length * width);
    const long at = (starts ? starts[prefix / prefixes_of_row] : 0) + inside / width;
    expect(at >= 0 && at < capacity, "TensorScatter inside of the cache");
    output[(prefix * capacity + at) * width + inside % width] = update[id];
  }
}

}  // namespace host
