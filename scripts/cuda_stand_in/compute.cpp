// A device that computes, on the host: what the fp32 graph that is made for CUDA launches. Its
// memory is the host's, and each work is over before the next begins.
//
// A kernel is known by all of its signature, in ONNX Runtime's words: one whose parameters changed
// is another, and one that isn't here is an exception, which ONNX Runtime passes on. Loops run over
// what a grid's blocks and threads would, in any order; sums are in float, as there.

#include <sys/mman.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include <library_types.h>

#include "device.h"

namespace {

using half = _Float16;

struct Grid {
  dim3 blocks, threads;
};

void expect(bool is, const char* what) {
  if (!is) throw std::runtime_error(std::string("the stand-in for CUDA computes only ") + what);
}

// ONNX Runtime's parameters

template <typename Type, int capacity = 8>
struct TArray {
  int size;
  Type data[capacity];
};

struct DivMod {  // by a number; the others make it fast
  uint32_t by, multiplier, shift;
};

struct Nothing {};  // an operator, which the kernel's name tells

// Of CUTLASS's attention. Of keys and values: BxNxSxH, of which S positions are there and
// `seqlen_k` of a batch's row are filled; strides in elements. Queries and output: BxSxNxH.
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

// Looking up and moving

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

void split(Grid, DivMod with_axis, DivMod inside_axis, DivMod part, int, const int* input,
           TArray<void*, 32> outputs, int count) {
  for (int id = 0; id < count; ++id) {
    const int outer = id / with_axis.by, rest = id % with_axis.by;
    const int place = rest / inside_axis.by, inside = rest % inside_axis.by;
    const int to = (outer * part.by + place % part.by) * inside_axis.by + inside;
    static_cast<int*>(outputs.data[place / part.by])[to] = input[id];
  }
}

// A thread moves 16 bytes; strides are in elements, those of the last dimension in 16 bytes.
void transpose_4d(Grid grid, TArray<long> input_strides, const void* input,
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

// BxNxSxH -> BxSxNxH; `width` is H in Type.
template <typename Type>
void transpose_context(Grid grid, int width, bool reversed, const Type* input, Type* output) {
  expect(!reversed, "TransposeCtx to BxSxNxH");
  const long length = grid.blocks.x, rows = grid.blocks.y, heads = grid.threads.y;
  for (long row = 0; row < rows; ++row)
    for (long head = 0; head < heads; ++head)
      for (long at = 0; at < length; ++at)
        std::copy_n(input + ((row * heads + head) * length + at) * width, width,
                    output + ((row * length + at) * heads + head) * width);
}

// BxSxNxH -> BxNxSxH, of one matrix alone.
template <typename Type>
void transpose_qkv(Grid grid, int width, bool reversed, const Type* input, Type* output,
                   int matrices) {
  expect(!reversed && matrices == 1, "TransposeQKV of one BxSxNxH");
  const long length = grid.blocks.x, rows = grid.blocks.y, heads = grid.threads.y;
  for (long row = 0; row < rows; ++row)
    for (long head = 0; head < heads; ++head)
      for (long at = 0; at < length; ++at)
        std::copy_n(input + ((row * length + at) * heads + head) * width, width,
                    output + ((row * heads + head) * length + at) * width);
}

// Writes `length` new positions of each prefix into the cache's `capacity`.
void tensor_scatter(Grid, int* output, const int* update, const long* starts, long,
                    long prefixes_of_row, long capacity, long length, long width,
                    unsigned long count) {
  for (unsigned long id = 0; id < count; ++id) {
    const long prefix = id / (length * width), inside = id % (length * width);
    const long at = (starts ? starts[prefix / prefixes_of_row] : 0) + inside / width;
    expect(at >= 0 && at < capacity, "TensorScatter inside of the cache");
    output[(prefix * capacity + at) * width + inside % width] = update[id];
  }
}

// One by one

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
void fast_gelu_of_pairs(Grid grid, HalfPair constant, HalfPair linear, HalfPair cubic, int count,
                        int biases, const HalfPair* input, const HalfPair* bias,
                        HalfPair* output) {
  fast_gelu(grid, constant.first, linear.first, cubic.first, 2 * count, 2 * biases, &input->first,
            bias ? &bias->first : nullptr, &output->first);
}

// Row by row

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

void log_softmax(const float* input, long width, float* output) {
  const float largest = *std::max_element(input, input + width);
  float sum = 0;
  for (long at = 0; at < width; ++at) sum += std::exp(input[at] - largest);
  for (long at = 0; at < width; ++at) output[at] = input[at] - largest - std::log(sum);
}
void log_softmax_of_small(Grid, float* output, const float* input, int rows, int stride,
                          int width) {
  for (long row = 0; row < rows; ++row)
    log_softmax(input + row * stride, width, output + row * stride);
}
void log_softmax_of_large(Grid grid, float* output, float* input, int width, int input_stride,
                          int output_stride) {
  for (long row = 0; row < grid.blocks.x; ++row)
    log_softmax(input + row * input_stride, width, output + row * output_stride);
}

// Of equals, those come first that lie first.
void top_k(Grid grid, const float* input, float* values, int64_t* ids, TArray<long>,
           unsigned long rank, int axis, long count, long largest, long, long width, long, float,
           float) {
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

void write_top_k(Grid, const float* input, const int* ids, float* values, int64_t* output_ids,
                 int rows, int width, int count, int stride) {
  expect(count == stride, "TopK of as many as lie in between");
  std::copy_n(ids, rows * count, output_ids);
  for (long at = 0; at < rows * count; ++at) values[at] = input[at / count * width + ids[at]];
}

// Attention

void lengths(Grid, const long* filled, int* output, int rows, int capacity) {
  for (int row = 0; row < rows; ++row)
    output[row] = std::clamp(filled[row], 0L, static_cast<long>(capacity));
}

void attend(const AttentionParams& of, const float* query, const float* keys, const float* values,
            int count, float* output) {
  std::vector<float> weights(count);
  for (int key = 0; key < count; ++key) {
    const float* with = keys + static_cast<long>(key) * of.k_strideM;
    weights[key] = of.scale * std::inner_product(query, query + of.head_dim, with, 0.0f);
  }
  log_softmax(weights.data(), count, weights.data());
  std::fill_n(output, of.head_dim_value, 0.0f);
  for (int key = 0; key < count; ++key)
    for (int at = 0; at < of.head_dim_value; ++at)
      output[at] += std::exp(weights[key]) * values[static_cast<long>(key) * of.v_strideM + at];
}

// A query sees nothing before the row's first key; what comes of that, ZeroFullyMaskedRows mends.
void attention(Grid grid, AttentionParams of) {
  const bool as_launched = of.num_heads == static_cast<int>(grid.blocks.y) &&
                           of.num_batches == static_cast<int>(grid.blocks.z);
  expect(as_launched, "the attention of the ONNX Runtime it was written for");
  const int causal_from_bottom_right = 2;
  expect(of.custom_mask_type == causal_from_bottom_right && of.seqlen_k && !of.bias &&
             of.window_size <= 0 && of.softcap == 0 && !of.use_smooth_softmax,
         "causal attention without a bias");
  for (long row = 0; row < of.num_batches; ++row)
    for (long head = 0; head < of.num_heads; ++head)
      for (long at = 0; at < of.num_queries; ++at) {
        const long position = row * of.num_queries + at;
        const float* query = of.query + position * of.q_strideM + head * of.q_strideH;
        const float* keys = of.key + row * of.k_strideB + head * of.k_strideH;
        const float* values = of.value + row * of.v_strideB + head * of.v_strideH;
        const int seen = of.seqlen_k[row] - of.num_queries + static_cast<int>(at) + 1;
        float* output = of.output + position * of.o_strideM + head * of.head_dim_value;
        attend(of, query, keys, values, std::max(seen, 0), output);
      }
}

// Half precision's, of GroupQueryAttention

// Of each row, from where its last token lies: `longest`, told on the host, is none longer than.
void sequence_lengths(Grid, const int* last, int* past, int* total, int* padded, int* of_window,
                      int*, int*, int rows, int length, bool first_prompt, int longest, int, int) {
  expect(!of_window, "GroupQueryAttention without a window");
  for (int row = 0; row < rows; ++row) {
    total[row] = std::min(std::max(last[row], 0) + 1, longest);
    past[row] = first_prompt ? 0 : std::max(total[row] - length, 0);
    padded[row] = first_prompt ? length : 0;
  }
}

// Queries, keys and values side by side, [row, length, 3, heads, width]: the queries go on by
// themselves, the others into the cache, [row, heads, capacity, width].
void unpack_and_append(Grid grid, const half* packed, const half*, const half*, const half*,
                       half* queries, half* keys, half* values, const float* key_scale,
                       const float*, const float*, int heads, int kv_heads, int width, int pitch,
                       int capacity, int, const int* past, const int*, const half*, const half*,
                       int rotary, const long*, bool, bool heads_first, bool, const half* norm,
                       const half*, float) {
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

// Of a query, scaled: the keys' and values' rows lie a pitch apart.
void attend(const half* query, const half* keys, const half* values, long pitch, int count,
            int width, float scale, half* output) {
  std::vector<float> weights(count), sums(width);
  for (int key = 0; key < count; ++key)
    weights[key] = scale * std::inner_product(query, query + width, keys + key * pitch, 0.0f);
  log_softmax(weights.data(), count, weights.data());
  for (int key = 0; key < count; ++key)
    for (int at = 0; at < width; ++at) sums[at] += std::exp(weights[key]) * values[key * pitch + at];
  std::copy(sums.begin(), sums.end(), output);
}

// Causal from the bottom right.
void flash_attention(FlashParams of) {
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
void flash_attention_at_once(Grid grid, FlashParams of) {
  expect(of.rows == static_cast<int>(grid.blocks.y) && of.heads == static_cast<int>(grid.blocks.z),
         "the flash attention of the ONNX Runtime it was written for");
  flash_attention(of);
}
// A device attends to parts of the keys and combines them; here there is nothing to combine.
void flash_attention_in_parts(Grid grid, FlashParams of) {
  expect(of.rows * of.heads == static_cast<int>(grid.blocks.z),
         "the flash attention of the ONNX Runtime it was written for");
  flash_attention(of);
}
void combine_flash_attention(Grid, FlashParams) {}

// XQA's, [row, heads, capacity, width]; `lengths` of what was there before, to which `more` come.
struct KeysAndValues {
  half *keys, *values;
  const uint32_t* lengths;
  uint32_t capacity;
  bool tokens_first;
  uint32_t more;
};
void attention_of_a_token(Grid grid, unsigned heads, unsigned window, float scale, half* output,
                          const half* query, const float* sinks, KeysAndValues of, unsigned rows,
                          const float* cache_scale, const float*, unsigned*, void*) {
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

void zero_empty_rows(Grid, float* output, const int* filled, int rows, long width) {
  for (long row = 0; row < rows; ++row)
    if (!filled[row]) std::fill_n(output + row * width, width, 0.0f);
}

// Output BxSxNxH.
void zero_masked_queries(Grid, float* output, const float* bias, const int* filled, int rows,
                         int heads, int queries, int, int width, bool causal, bool from_top_left,
                         int, int, float) {
  expect(!bias && causal && !from_top_left && filled, "causal attention without a bias");
  const long size = static_cast<long>(heads) * width;
  for (long row = 0; row < rows; ++row)
    for (long at = 0; at < queries; ++at)
      if (filled[row] - queries + at + 1 <= 0)
        std::fill_n(output + (row * queries + at) * size, size, 0.0f);
}

// Launching

template <typename... Types>
device::Work prepared(void (*kernel)(Grid, Types...), Grid grid, void** arguments) {
  std::tuple<Grid, Types...> values{grid, *static_cast<Types*>(*arguments++)...};
  return [=] { std::apply(kernel, values); };
}

template <auto kernel>
device::Work prepare(Grid grid, void** arguments) {
  return prepared(kernel, grid, arguments);
}

struct Kernel {
  const char* signature;  // # stands for a number
  device::Work (*prepare)(Grid, void**);
};

const Kernel kernels[] = {
    {"_GatherKernel<int>(long, long, DivMod<int>, DivMod<int>, void const*, unsigned long, "
     "int const*, int*, int)",
     prepare<gather<int>>},
    {"_GatherKernel<long>(long, long, DivMod<int>, DivMod<int>, void const*, unsigned long, "
     "long const*, long*, int)",
     prepare<gather<long>>},
    {"_GatherKernel<short>(long, long, DivMod<int>, DivMod<int>, void const*, unsigned long, "
     "short const*, short*, int)",
     prepare<gather<short>>},
    {"_SliceKernel<false, 2, short>(TArray<long, 8>, TArray<long, 8>, TArray<long, 8>, "
     "TArray<DivMod<int>, 8>, short const*, short*, int)",
     prepare<slice_rows<short>>},
    {"_UnaryElementWise<__half, float, OP_Cast<__half, float>, #, #>(__half const*, float*, "
     "OP_Cast<__half, float>, long)",
     prepare<cast<float, half>>},
    {"_BinaryElementWiseSimple<true, true, __half, __half, __half, OP_Add<__half, __half, "
     "__half>, #, #, int>(__half const*, __half const*, __half*, OP_Add<__half, __half, __half>, "
     "int)",
     prepare<add<half, true, true>>},
    {"BroadcastBiasKernel<__half, int, false>(__half const*, __half*, long, DivMod<int>, int, "
     "int, __half)",
     prepare<broadcast_bias<half>>},
    {"FastGeluKernel2<#u>(__half2, __half2, __half2, int, int, __half2 const*, __half2 const*, "
     "__half2*)",
     prepare<fast_gelu_of_pairs>},
    {"cuApplyLayerNorm<__half, float, __half, false>(__half*, float*, float*, __half const*, int, "
     "int, float, __half const*, __half const*, int, __half const*, __half const*, __half*)",
     prepare<layer_norm<half>>},
    {"SkipLayerNormKernelSmall<__half, #u, #, false>(__half*, __half*, __half const*, __half "
     "const*, __half const*, __half const*, __half const*, float, int, int)",
     prepare<skip_layer_norm<half>>},
    {"GetSequenceLengths(int const*, int*, int*, int*, int*, int*, int*, int, int, bool, int, "
     "int, int)",
     prepare<sequence_lengths>},
    {"UnpackRoPEAppend<__half, __half, 16, 64>(__half const*, __half const*, __half const*, "
     "__half const*, __half*, __half*, __half*, float const*, float const*, float const*, int, "
     "int, int, int, int, int, int const*, int const*, __half const*, __half const*, int, long "
     "const*, bool, bool, bool, __half const*, __half const*, float)",
     prepare<unpack_and_append>},
    {"flash::flash_fwd_kernel<flash::Flash_fwd_kernel_traits<64, #, #, #, false, false, "
     "cutlass::half_t, flash::Flash_kernel_traits<64, #, #, #, cutlass::half_t> >, true, false, "
     "false, false, true, false, false>(flash::Flash_fwd_params)",
     prepare<flash_attention_at_once>},
    {"flash::flash_fwd_splitkv_kernel<flash::Flash_fwd_kernel_traits<64, #, #, #, false, false, "
     "cutlass::half_t, flash::Flash_kernel_traits<64, #, #, #, cutlass::half_t> >, true, "
     "false, false, false, true, false, true, false>(flash::Flash_fwd_params)",
     prepare<flash_attention_in_parts>},
    {"flash::flash_fwd_splitkv_combine_kernel<flash::Flash_fwd_kernel_traits<64, #, #, #, false, false, "
     "cutlass::half_t, flash::Flash_kernel_traits<64, #, #, #, cutlass::half_t> >, #, "
     "#, true>(flash::Flash_fwd_params)",
     prepare<combine_flash_attention>},
    {"H64::grp1_fp16::kernel_mha(unsigned int, unsigned int, float, Vec<__half, 64u>*, "
     "Vec<__half, 64u> const*, float const*, KVCacheList<false>, unsigned int, float const*, "
     "float const*, unsigned int*, void*)",
     prepare<attention_of_a_token>},
    {"_GatherScatterElementsKernel<float, long, true, OffsetCalculator<false>, "
     "FuncAssignment<float> >(float const*, long const*, float*, long, long, "
     "OffsetCalculator<false>, FuncAssignment<float>, int)",
     prepare<gather_elements<Offsets>>},
    {"_GatherScatterElementsKernel<float, long, true, OffsetCalculatorFor2D<false, false>, "
     "FuncAssignment<float> >(float const*, long const*, float*, long, long, "
     "OffsetCalculatorFor2D<false, false>, FuncAssignment<float>, int)",
     prepare<gather_elements<OffsetsOfRows>>},
    {"_SliceKernel<false, 2, int>(TArray<long, 8>, TArray<long, 8>, TArray<long, 8>, "
     "TArray<DivMod<int>, 8>, int const*, int*, int)",
     prepare<slice_rows<int>>},
    {"_SplitKernelSameSplitDim<int, TArray<void*, 32> >(DivMod<int>, DivMod<int>, DivMod<int>, "
     "int, int const*, TArray<void*, 32>, int)",
     prepare<split>},
    {"Transpose4DKernelParallelizeMultipleElementsPerThreadInInnermostDim<4>(TArray<long, 8>, "
     "void const*, TArray<long, 8>, void*, long, int)",
     prepare<transpose_4d>},
    {"TransposeCtx<float2>(int, bool, float2 const*, float2*)", prepare<transpose_context<float2>>},
    {"TransposeQKV<float2>(int, bool, float2 const*, float2*, int)",
     prepare<transpose_qkv<float2>>},
    {"_TensorScatterKernel<int, false>(int*, int const*, long const*, long, long, long, long, "
     "long, unsigned long)",
     prepare<tensor_scatter>},
    {"_UnaryElementWise<int, long, OP_Cast<int, long>, #, #>(int const*, long*, "
     "OP_Cast<int, long>, long)",
     prepare<cast<long, int>>},
    {"_BinaryElementWiseSimple<true, true, float, float, float, OP_Add<float, float, float>, #, "
     "#, int>(float const*, float const*, float*, OP_Add<float, float, float>, int)",
     prepare<add<float, true, true>>},
    {"_BinaryElementWiseSimple<true, false, long, long, long, OP_Add<long, long, long>, #, #, "
     "int>(long const*, long const*, long*, OP_Add<long, long, long>, int)",
     prepare<add<long, true, false>>},
    {"_BinaryElementWiseSimple<false, true, long, long, long, OP_Add<long, long, long>, #, #, "
     "int>(long const*, long const*, long*, OP_Add<long, long, long>, int)",
     prepare<add<long, false, true>>},
    {"BroadcastBiasKernel<float, int, false>(float const*, float*, long, DivMod<int>, int, int, "
     "float)",
     prepare<broadcast_bias<float>>},
    {"FastGeluKernel<float, #u>(float, float, float, int, int, float const*, float const*, "
     "float*)",
     prepare<fast_gelu<float, float>>},
    {"cuApplyLayerNorm<float, float, float, false>(float*, float*, float*, float const*, int, "
     "int, float, float const*, float const*, int, float const*, float const*, float*)",
     prepare<layer_norm<float>>},
    {"SkipLayerNormKernelSmall<float, #u, #, false>(float*, float*, float const*, float const*, "
     "float const*, float const*, float const*, float, int, int)",
     prepare<skip_layer_norm<float>>},
    {"softmax_warp_forward<float, float, float, #, true>(float*, float const*, int, int, int)",
     prepare<log_softmax_of_small>},
    {"softmax_block_forward<#, float, float, float, LogSoftMaxForwardEpilogue>(float*, float*, "
     "int, int, int)",
     prepare<log_softmax_of_large>},
    {"RadixTopK<float, #l, #l>(float const*, float*, long*, TArray<long, 8>, unsigned long, int, "
     "long, long, long, long, long, float, float)",
     prepare<top_k>},
    {"hybrid_topk::FindPartitionTopK<float, 3328, 64>(float const*, float*, int*, int, int)",
     prepare<top_k_of_parts<3328, 64>>},
    {"hybrid_topk::CooperativeReduce<64, #, 16, 1, 1>(int*, float*, int*, float*, int)",
     prepare<top_k_of_all_parts<64>>},
    {"hybrid_topk::WriteOutput<float>(float const*, int const*, float*, long*, int, int, int, "
     "int)",
     prepare<write_top_k>},
    {"ConvertNonpadKvSeqlenToFlashSeqlensKKernel(long const*, int*, int, int)", prepare<lengths>},
    {"attention_kernel_batched_impl_right_padding<AttentionKernel<float, cutlass::arch::Sm80, "
     "true, #, #, #, false, true, DefaultToBatchHook>, #>(AttentionKernel<float, "
     "cutlass::arch::Sm80, true, #, #, #, false, true, DefaultToBatchHook>::Params)",
     prepare<attention>},
    {"ZeroOutputForFullyMaskedBatchesKernel<float>(float*, int const*, int, long)",
     prepare<zero_empty_rows>},
    {"ZeroFullyMaskedRowsKernel<float>(float*, float const*, int const*, int, int, int, int, "
     "int, bool, bool, int, int, float)",
     prepare<zero_masked_queries>},
};

// A signature without what it returns and without ONNX Runtime's namespaces.
std::string shortened(std::string name) {
  for (const char* part : {"void ", "onnxruntime::", "contrib::", "cuda::",
                           "(anonymous namespace)::"}) {
    const size_t size = std::strlen(part);
    const bool leads = !std::strcmp(part, "void ");  // it is a parameter's as well
    for (size_t at; (at = name.find(part)) != std::string::npos && (!leads || !at);)
      name.erase(at, size);
  }
  return name;
}

bool matches(const char* pattern, const char* name) {
  for (; *pattern && *name; ++pattern) {
    const bool number = *pattern == '#' && std::isdigit(*name);
    if (!number && *pattern != *name) return false;
    do ++name;
    while (number && std::isdigit(*name));
  }
  return *pattern == *name;
}

}  // namespace

namespace device {

const int access = PROT_READ | PROT_WRITE;

Work copy(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
          size_t height, cudaMemcpyKind) {
  return [=] {
    for (size_t row = 0; row < height; ++row)
      std::memmove(static_cast<char*>(to) + row * to_pitch,
                   static_cast<const char*>(from) + row * from_pitch, width);
  };
}

Work fill(void* to, int value, size_t bytes) {
  return [=] { std::memset(to, value, bytes); };
}

// How much memory a kernel's blocks share is all that is asked so, and that needs none here.
Work value(void* to, const std::string& variable, size_t bytes) {
  const std::string end = "::smemSize";
  expect(variable.size() > end.size() &&
             !variable.compare(variable.size() - end.size(), end.size(), end),
         "without variables on the device");
  return [=] { std::memset(to, 0, bytes); };
}

Work kernel(const std::string& name, dim3 grid, dim3 block, void** arguments) {
  const std::string is = shortened(name);
  for (const Kernel& known : kernels)
    if (matches(known.signature, is.c_str())) return known.prepare({grid, block}, arguments);
  throw std::runtime_error("the stand-in for CUDA doesn't compute " + is);
}

}  // namespace device

namespace {

// Column by column: C = alpha op(A) op(B) + beta C, [m, k] times [k, n].
template <typename Type>
void multiply(bool a_is_transposed, bool b_is_transposed, int m, int n, int k, float alpha,
              const Type* a, int lda, const Type* b, int ldb, float beta, Type* c, int ldc) {
  const long a_row = a_is_transposed ? lda : 1, a_column = a_is_transposed ? 1 : lda;
  const long b_row = b_is_transposed ? ldb : 1, b_column = b_is_transposed ? 1 : ldb;
  std::vector<float> sums(m);
  for (long column = 0; column < n; ++column) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (long at = 0; at < k; ++at) {
      const float times = b[at * b_row + column * b_column];
      for (long row = 0; row < m; ++row) sums[row] += a[row * a_row + at * a_column] * times;
    }
    Type* to = c + column * ldc;
    for (long row = 0; row < m; ++row)
      to[row] = alpha * sums[row] + (beta == 0 ? 0 : beta * to[row]);
  }
}

}  // namespace

CUDA int cublasSgemm_v2(void*, int a_is_transposed, int b_is_transposed, int m, int n, int k,
                        const float* alpha, const float* a, int lda, const float* b, int ldb,
                        const float* beta, float* c, int ldc) {
  cuda_stand_in_record("product", __func__);
  device::submit([=, alpha = *alpha, beta = *beta] {
    multiply(a_is_transposed, b_is_transposed, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  });
  return 0;
}

CUDA int cublasGemmEx(void*, int a_is_transposed, int b_is_transposed, int m, int n, int k,
                      const void* alpha, const half* a, cudaDataType a_type, int lda, const half* b,
                      cudaDataType b_type, int ldb, const void* beta, half* c, cudaDataType c_type,
                      int ldc, int computes_in, int) {
  cuda_stand_in_record("product", __func__);
  expect(a_type == CUDA_R_16F && b_type == CUDA_R_16F && c_type == CUDA_R_16F, "products of fp16");
  const bool in_half = computes_in == 64;  // CUBLAS_COMPUTE_16F
  const auto number = [=](const void* of) {
    return in_half ? static_cast<float>(*static_cast<const half*>(of))
                   : *static_cast<const float*>(of);
  };
  device::submit([=, alpha = number(alpha), beta = number(beta)] {
    multiply(a_is_transposed, b_is_transposed, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  });
  return 0;
}
