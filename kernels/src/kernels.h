// What a processor does for the operators: a table of functions over plain memory.
//
// Every processor computes the same bits. Numbers are taken 16 at a time: a lane is an output, so
// each output's terms are added in the order of the inputs, by fused multiply-adds; and where a sum
// runs along a row it is 16 sums and then a fixed tree. Sums of integers are exact. So a row's
// result depends on nothing that shares its run, nor on how many registers a processor has.
#pragma once

#include <cstdint>

namespace gpt2onnx {

constexpr int LANES = 16;
// Levels of activations: 8 bits, and 16 as two signed bytes, 256 * 127 + 0 at most.
constexpr int LEVELS8 = 127, LEVELS16 = 127 * 256;
// The longest group with one scale of 16-bit activations: 255 * LEVELS16 * 256 fits 32 bits.
constexpr int64_t LONGEST_GROUP = 256;

// The most rows of a task. ONNX Runtime's pool gives each thread tasks that lie next to each other:
// of more rows than these a thread has the same ones in every operator, and finds what it wrote in
// its own caches, where two threads may have none in common.
constexpr int64_t TASK_ROWS = 16;

// What lies in a row of logits is told by blocks: the largest of its columns, and sums.
constexpr int COLUMN = 16, BLOCK = COLUMN * LANES, GROUP = 4 * LANES;
// Weights up to 1 are summed in two parts: whole multiples of this, of which BLOCK add up exactly,
// and what is left, at most half of it, whose sum is rounded 19 times.
constexpr float COARSE = 0x1p-16f;
constexpr int ROUNDINGS = COLUMN - 1 + 4;

enum class Store { float32, float16, int8 };  // of the KV cache

enum class Activation {
  linear, gelu, gelu_tanh, gelu_10, laplace, leaky_relu, mish, quick_gelu, relu, relu2, relu6,
  sigmoid, silu, tanh,
};

// Rows of activations, rounded: group by group of `group` inputs, each with a scale and the sum of
// its levels. A row is one plane of int16, or of int8 a plane for each of its bytes, the high one
// first. The last group may be shorter than the others.
struct Rounded {
  int64_t padded;  // inputs, filled up
  int64_t group;
  int bits;        // 8 or 16
  bool by_token;   // one scale for the row, repeated
  int64_t row_bytes;
  uint8_t* levels;  // [rows, row_bytes]
  float* scales;    // [rows, groups]
  int32_t* sums;    // [rows, groups]

  int64_t groups() const { return (padded + group - 1) / group; }
  int64_t width(int64_t number) const {
    const int64_t left = padded - number * group;
    return left < group ? left : group;
  }
};

// Weights of 16 outputs after each other, packed by `pack`: [panels][padded / step][16 * step]
// levels, of 4 bits two a byte, and scales [panels][groups or 1][16], floats or halves.
struct Packed {
  int64_t padded, group, panels;
  int bits;
  bool by_column;  // one scale an output
  const uint8_t* levels;
  const void* scales;
  int scale_bits;  // 32 or 16

  int64_t panel_bytes() const { return padded * LANES * bits / 8; }
  int64_t groups() const { return (padded + group - 1) / group; }
  // Where the scales of a panel's group are, of 16 outputs.
  const void* scales_of(int64_t panel, int64_t group) const {
    const int64_t at = by_column ? panel : panel * groups() + group;
    return static_cast<const uint8_t*>(scales) + at * LANES * scale_bits / 8;
  }
};

// Rows are cut into tiles, as even as can be, the longer ones first. Those that take the same
// weights one after another, on one thread, share what they ask memory for: the `number`-th of so
// many, from `row` on.
struct Tile {
  int64_t row;
  int number, of;
};

// A product of `rows` rows from `x` on, and some columns.
struct FloatTile {
  const float* x;
  int64_t x_stride;
  int rows;
  const void* w;       // [inputs, w_stride] of `store`
  int64_t w_stride;
  int columns;         // others are neither read nor written
  Store store;
  int64_t inputs;
  float* out;          // [rows, out_stride]
  int64_t out_stride;
  bool onward;         // the sums go on from what `out` holds
  bool followed = false;  // behind w lies what the next product reads
};

// What comes behind a product, for rows of 16 outputs.
struct Epilogue {
  const float* bias;      // [16] or null
  Activation activation;
  const float* residual;  // [rows, stride] or null
  float* out;             // [rows, stride]
  int64_t stride;
  int columns;            // 1 to 16
};

struct Kernels {
  const char* name;
  int step;         // inputs that one product takes of each output: how `pack` lays them out
  int planes16;     // planes of a row of 16-bit activations
  int level_bytes;  // of a plane's level
  int rows;         // rows of a tile, at most
  int panels;       // panels that a tile of rounded rows takes at once
  int float_rows;   // rows of a float tile, at most

  // Layer normalization of a row.
  void (*normalize)(const float* x, int64_t width, const float* gain, const float* bias,
                    float epsilon, float* out);
  // Rounds x [width] as row `row`; whatever is behind `width` becomes 0.
  void (*round)(const float* x, int64_t width, const Rounded& rounded, int64_t row);
  // Rounds x [width] to 8 bits by group, and what that leaves as well, to a 254th of its steps: row
  // `row` of both. `coarse` may have groups more.
  void (*split)(const float* x, int64_t width, const Rounded& coarse, const Rounded& rest,
                int64_t row);
  // Levels [16][padded], unsigned around 128 or 8, to one panel's place.
  void (*pack)(const uint8_t* levels, int64_t padded, int bits, uint8_t* panel);
  // The first `width` levels of 8 bits of one of a panel's outputs.
  void (*unpack)(const uint8_t* panel, int lane, int64_t width, uint8_t* levels);
  // `rows` rounded rows, a tile's, times `panels` panels from `panel` on: out [rows, panels * 16].
  void (*product)(const Rounded& x, const Tile& tile, int rows, const Packed& w, int64_t panel,
                  int panels, float* out);
  void (*float_product)(const FloatTile& tile);
  void (*finish)(const float* tile, int64_t tile_stride, int rows, const Epilogue& epilogue);
  // keys [16, head_dim] of a store -> [head_dim, stride], 16 of them; rows from `count` on become
  // 0.
  void (*transpose)(const void* keys, Store store, int64_t head_dim, int count, float* out,
                    int64_t stride);
  // A query's scores [filled up to 16] of `count` keys of a store, 16 at most.
  void (*scores)(const float* query, const void* keys, Store store, int64_t head_dim, int count,
                 float* out);
  // Scores [length, filled up to 16] times `scale` -> exp(score - the largest one), and their sum.
  float (*exponentials)(float* scores, int64_t length, float scale);
  void (*scale)(float* x, int64_t width, float factor, const float* steps, float* out);
  // Floats to the type of a cache, and from it; int8 to the nearest whole number.
  void (*put)(const float* x, int64_t width, Store store, void* out);
  void (*take)(const void* x, int64_t width, Store store, float* out);
  // The largest of each `column` numbers of x [width], LANES apart: [width / LANES / column,
  // rounded up][LANES].
  void (*maxima)(const float* x, int64_t width, int64_t column, float* out);
  // The sums of exp((x - peak) * factor) over each BLOCK numbers of x [width].
  void (*block_sums)(const float* x, int64_t width, float peak, float factor, float* sums);
  // exp(x / temperature - peak / temperature) of x [width], divisions and difference rounded.
  void (*weigh)(const float* x, int64_t width, float peak, float temperature, float* weights);
  // The sums over each BLOCK of those of the weights [width], from 0 to 1, whose x is below
  // `border`, in two parts as said of COARSE.
  void (*sums_below)(const float* x, const float* weights, int64_t width, float border,
                     double* sums);
  // For each GROUP of x [width] 1 where one of them is from `low` to below `high`, else 0.
  void (*between)(const float* x, int64_t width, float low, float high, float* found);
  // Nothing but multiply-adds, of rounded numbers or of floats, on what lies in the first cache:
  // the most that the processor can do. Gives how many there are in so many rounds.
  int64_t (*multiply)(bool rounded, int64_t rounds);
};

// The processors' tables; null where the build has none for it.
const Kernels* scalar_kernels();
const Kernels* avx2_kernels();
const Kernels* avx_vnni_kernels();
const Kernels* avx512_vnni_kernels();
const Kernels* amx_kernels();
const Kernels* neon_kernels();
const Kernels* neon_i8mm_kernels();

// The best that this processor can run, or the one that GPT2ONNX_KERNELS names. Raises Failure
// where it is unknown or can't run here.
const Kernels& kernels();

}  // namespace gpt2onnx
