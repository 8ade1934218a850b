// The thin layer for AMX: AVX-512's with VNNI, but for the products of many rows, which its tiles
// make. A tile of weights is VNNI's layout as it lies there: rows of 16 outputs' next four inputs.
#pragma once

#define GPT2ONNX_TARGET amx
#define GPT2ONNX_TILES
#include "simd_avx512_vnni.h"

namespace gpt2onnx::amx {

// Rows of a tile, and from how many on it is faster than products of eight rows at most.
constexpr int TILE_ROWS = 16, TILES_FROM = 9;
constexpr int TILE_BYTES = 64;  // of a row of a tile
// Tiles by number, which the intrinsics want to see written out: sums of each plane, the planes of
// activations, weights; two more sums for the ceiling.
#define SUMS_0 0
#define SUMS_1 1
#define PLANE_0 2
#define PLANE_1 3
#define WEIGHTS 4
#define SUMS_2 5
#define SUMS_3 6

// What was written there is read by a tile, of which GCC's intrinsics don't tell it.
inline void written(const void* memory) { asm volatile("" ::"r"(memory) : "memory"); }

// The tiles' shapes, for `count` rows of `inputs` inputs at once.
struct alignas(64) Shapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};

  Shapes(int count, int inputs) {
    constexpr int SUMS[] = {SUMS_0, SUMS_1, SUMS_2, SUMS_3}, LEVELS[] = {PLANE_0, PLANE_1};
    for (int tile : SUMS) set(tile, count, TILE_BYTES);
    for (int tile : LEVELS) set(tile, count, inputs);
    set(WEIGHTS, inputs / STEP, TILE_BYTES);
  }
  void set(int tile, int count, int width) {
    rows[tile] = uint8_t(count), bytes[tile] = uint16_t(width);
  }
};

// The shapes that this thread's tiles have.
struct Shaped {
  int rows = 0, inputs = 0;

  void take(int new_rows, int new_inputs) {
    if (rows == new_rows && inputs == new_inputs) return;
    rows = new_rows, inputs = new_inputs;
    const Shapes shapes(rows, inputs);
    written(&shapes);
    _tile_loadconfig(&shapes);
  }
  void release() {
    _tile_release();
    *this = {};
  }
};

// The most inputs of a group that tiles of one size take in turns.
inline int tile_inputs(int64_t group) {
  int inputs = TILE_BYTES;
  while (group % inputs) inputs -= LANES;
  return inputs;
}

// Adds rows of levels, `stride` apart, the second plane `plane` behind the first, times weights.
template <int PLANES>
inline void multiply_tiles(const Level* levels, int64_t stride, int64_t plane,
                           const uint8_t* weights) {
  _tile_loadd(WEIGHTS, weights, TILE_BYTES);
  _tile_loadd(PLANE_0, levels, stride);
  _tile_dpbsud(SUMS_0, PLANE_0, WEIGHTS);
  if constexpr (PLANES == 2) {
    _tile_loadd(PLANE_1, levels + plane, stride);
    _tile_dpbsud(SUMS_1, PLANE_1, WEIGHTS);
  }
}

using TileSums = int32_t[TILE_ROWS][LANES];

// The sums of a group of `width` weights, a byte each, by tiles of `inputs` inputs.
template <int PLANES>
inline void sum_by_tiles(const Rounded& x, const Level* levels, const uint8_t* weights,
                         int64_t width, int inputs, TileSums (&sums)[PLANES]) {
  _tile_zero(SUMS_0);
  if constexpr (PLANES == 2) _tile_zero(SUMS_1);
  for (int64_t k = 0; k < width; k += inputs)
    multiply_tiles<PLANES>(levels + k, x.row_bytes, x.padded, weights + k * LANES);
  _tile_stored(SUMS_0, sums[0], TILE_BYTES);
  if constexpr (PLANES == 2) _tile_stored(SUMS_1, sums[1], TILE_BYTES);
}

using GroupBytes = uint8_t[LONGEST_GROUP * LANES];

// Four bits of a group's `count` weights taken apart to bytes.
inline void unpack(const uint8_t* packed, int64_t count, GroupBytes& to) {
  for (int64_t at = 0; at < count; at += TILE_BYTES)
    _mm512_storeu_si512(to + at, weights4(packed + at / 2, 0).a);
  written(to);
}

inline I16 load_sums(const int32_t* p) { return {_mm512_loadu_si512(p)}; }

// A row's whole sums: of its planes, less what its levels' sum adds, as weights are unsigned.
template <int32_t ZERO, int PLANES>
inline I16 whole_sums(const TileSums (&sums)[PLANES], int row, int32_t levels_sum) {
  const __m512i sum = set1(levels_sum).a, last = load_sums(sums[PLANES - 1][row]).a;
  if constexpr (PLANES == 1)  // 16 bits hold the sum of 256 levels
    return {_mm512_dpwssd_epi32(last, sum, set1(-ZERO & 0xffff).a)};
  constexpr int SHIFT = ZERO == 128 ? 7 : 3;  // high * 256 - sum * ZERO, in one
  static_assert(ZERO == 1 << SHIFT);
  const __m512i high = _mm512_slli_epi32(load_sums(sums[0][row]).a, 8 - SHIFT);
  return {_mm512_add_epi32(_mm512_slli_epi32(_mm512_sub_epi32(high, sum), SHIFT), last)};
}

// COUNT rows times one of `panels` panels; rows of `out` are `panels` * 16 apart. The tiles make a
// group's sums while those of the one before it are added up.
template <int BITS, int PLANES, int COUNT>
void tile_panel(const Rounded& x, const Tile& tile, const Packed& w, int64_t panel, int panels,
                Shaped& shaped, float* out) {
  constexpr int32_t ZERO = BITS == 8 ? ZERO8 : ZERO4;
  const int64_t groups = x.groups(), group_bytes = x.group * LANES * BITS / 8;
  const int most = tile_inputs(x.group);
  auto* levels = reinterpret_cast<const Level*>(x.levels) + tile.row * x.row_bytes;
  const uint8_t* weights = w.levels + panel * w.panel_bytes();
  // Alone it asks memory for what it comes to soon, of several tiles for its share of what the next
  // panels have.
  const int64_t ahead = tile.of == 1 ? AHEAD : panels * w.panel_bytes();
  int wait = tile.number;  // groups before this tile asks for one
  // Four rows share pointers: one for each is more than there are registers.
  constexpr int SHARED = 4, POINTERS = (COUNT + SHARED - 1) / SHARED;
  const float* factors[POINTERS];
  const int32_t* level_sums[POINTERS];
#pragma GCC unroll 4
  for (int i = 0; i < POINTERS; ++i) {
    factors[i] = x.scales + (tile.row + i * SHARED) * groups;
    level_sums[i] = x.sums + (tile.row + i * SHARED) * groups;
    asm("" : "+r"(factors[i]), "+r"(level_sums[i]));
  }
  alignas(64) TileSums dots[2][PLANES];
  alignas(64) GroupBytes room[BITS == 8 ? 1 : 2];
  if constexpr (BITS == 4) unpack(weights, x.width(0) * LANES, room[0]);
  F16 sums[COUNT];
#pragma GCC unroll 16
  for (int r = 0; r < COUNT; ++r) sums[r] = set1(0.0f);
  for (int64_t made = 0, group = -1; group < groups; ++made, ++group) {
    if (made < groups) {
      if (wait-- == 0) {
        wait = tile.of - 1;
        for (int64_t at = 0; at < group_bytes; at += 64)
          __builtin_prefetch(weights + ahead + at, 0, LOCALITY);
        __builtin_prefetch(w.scales_of(panel + panels, made), 0, LOCALITY);
      }
      const int64_t width = x.width(made);
      const int inputs = width == x.group ? most : tile_inputs(width);
      shaped.take(COUNT, inputs);
      sum_by_tiles<PLANES>(x, levels, BITS == 8 ? weights : room[made & 1], width, inputs,
                           dots[made & 1]);
      levels += x.group, weights += group_bytes;
      // A tile that reads what was just written waits for it: so that is done a group before.
      if (BITS == 4 && made + 1 < groups)
        unpack(weights, x.width(made + 1) * LANES, room[BITS == 8 ? 0 : (made + 1) & 1]);
    }
    if (group < 0) continue;
    const F16 scale = load_scales(w, panel, group);
    const TileSums(&now)[PLANES] = dots[group & 1];
#pragma GCC unroll 16
    for (int r = 0; r < COUNT; ++r) {
      const int64_t at = r % SHARED * groups + group;
      const I16 whole = whole_sums<ZERO, PLANES>(now, r, level_sums[r / SHARED][at]);
      sums[r] = fma(to_float(whole) * scale, set1(factors[r / SHARED][at]), sums[r]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < COUNT; ++r) store(out + r * panels * LANES, sums[r]);
}

template <int BITS, int PLANES, int COUNT = TILE_ROWS>
void tile_rows(const Rounded& x, const Tile& tile, int rows, const Packed& w, int64_t panel,
               int panels, Shaped& shaped, float* out) {
  if (rows == COUNT) {
    for (int p = 0; p < panels; ++p)
      tile_panel<BITS, PLANES, COUNT>(x, tile, w, panel + p, panels, shaped, out + p * LANES);
  } else if constexpr (COUNT > TILES_FROM) {
    tile_rows<BITS, PLANES, COUNT - 1>(x, tile, rows, w, panel, panels, shaped, out);
  }
}

// Kernels::product of TILES_FROM to TILE_ROWS rows. The tiles' shapes are the thread's, and ONNX
// Runtime's own products set them as well. Setting them takes a tenth of a product's time: those
// that follow each other keep them, and the last one gives them back.
inline void product_by_tiles(const Rounded& x, const Tile& tile, int rows, const Packed& w,
                             int64_t panel, int panels, float* out) {
  static thread_local Shaped shaped;
  if (tile.number == 0) shaped = {};
  auto of = w.bits == 8 ? (x.bits == 16 ? tile_rows<8, 2> : tile_rows<8, 1>)
                        : (x.bits == 16 ? tile_rows<4, 2> : tile_rows<4, 1>);
  of(x, tile, rows, w, panel, panels, shaped, out);
  // The next one has a row less at most, and might have too few.
  if (tile.number == tile.of - 1 || rows == TILES_FROM) shaped.release();
}

// Products of full tiles alone; how many multiply-adds those are.
inline int64_t multiply_by_tiles(int64_t rounds) {
  alignas(64) static const uint8_t zeros[TILE_ROWS * TILE_BYTES] = {};
  alignas(64) TileSums sums;
  Shaped shaped;
  shaped.take(TILE_ROWS, TILE_BYTES);
  _tile_loadd(WEIGHTS, zeros, TILE_BYTES);
  _tile_loadd(PLANE_0, zeros, TILE_BYTES);
  _tile_zero(SUMS_0);
  _tile_zero(SUMS_1);
  _tile_zero(SUMS_2);
  _tile_zero(SUMS_3);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbsud(SUMS_0, PLANE_0, WEIGHTS);
    _tile_dpbsud(SUMS_1, PLANE_0, WEIGHTS);
    _tile_dpbsud(SUMS_2, PLANE_0, WEIGHTS);
    _tile_dpbsud(SUMS_3, PLANE_0, WEIGHTS);
  }
  _tile_stored(SUMS_0, sums, TILE_BYTES);
  shaped.release();
  return rounds * 4 * TILE_ROWS * LANES * TILE_BYTES;
}

}  // namespace gpt2onnx::amx
