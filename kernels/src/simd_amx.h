// The thin layer for AMX: AVX-512's with VNNI, but for the products of many rows, which its tiles
// make. A tile of weights is VNNI's layout as it lies there: rows of 16 outputs' next four inputs.
#pragma once

#define GPT2ONNX_TARGET amx
#define GPT2ONNX_TILES
#include "simd_avx512_vnni.h"

namespace gpt2onnx::amx {

// Rows of a tile, and from how many on it is worth its start.
constexpr int TILE_ROWS = 16, TILES_FROM = 8;
constexpr int TILE_BYTES = 64;  // of a row of a tile
// Tiles by number, which the intrinsics want to see written out: sums of a panel and a plane, then
// the planes of activations, then the panels' weights.
#define SUMS_00 0
#define SUMS_01 1
#define SUMS_10 2
#define SUMS_11 3
#define PLANE_0 4
#define PLANE_1 5
#define PANEL_0 6
#define PANEL_1 7

// What was written there is read by a tile, of which GCC's intrinsics don't tell it.
inline void written(const void* memory) { asm volatile("" ::"r"(memory) : "memory"); }

// The tiles' shapes, for `rows` rows and so many inputs at once. They are the thread's, and ONNX
// Runtime's own products set them as well, so each product sets them and gives them back.
class Tiles {
 public:
  explicit Tiles(int rows) : rows_(rows) {}
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;

  void take(int inputs) {
    if (inputs == inputs_) return;
    inputs_ = inputs;
    set(SUMS_00, SUMS_11, rows_, TILE_BYTES);
    set(PLANE_0, PLANE_1, rows_, inputs);
    set(PANEL_0, PANEL_1, inputs / STEP, TILE_BYTES);
    written(&shapes_);
    _tile_loadconfig(&shapes_);
  }

 private:
  void set(int tile, int last, int rows, int bytes) {
    for (; tile <= last; ++tile)
      shapes_.rows[tile] = uint8_t(rows), shapes_.bytes[tile] = uint16_t(bytes);
  }
  int rows_, inputs_ = 0;
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
  } shapes_;
};

// The most inputs of a group that tiles of one size take in turns.
inline int tile_inputs(int64_t group) {
  int inputs = TILE_BYTES;
  while (group % inputs) inputs -= LANES;
  return inputs;
}

template <int PANELS_, int PLANES>
inline void zero_tiles() {
  _tile_zero(SUMS_00);
  if constexpr (PLANES == 2) _tile_zero(SUMS_01);
  if constexpr (PANELS_ == 2) _tile_zero(SUMS_10);
  if constexpr (PANELS_ == 2 && PLANES == 2) _tile_zero(SUMS_11);
}

// Adds rows of levels, `stride` apart, the second plane `plane` behind the first, times weights.
template <int PANELS_, int PLANES>
inline void multiply_tiles(const Level* levels, int64_t stride, int64_t plane,
                           const uint8_t* const (&weights)[PANELS_]) {
  _tile_loadd(PLANE_0, levels, stride);
  _tile_loadd(PANEL_0, weights[0], TILE_BYTES);
  _tile_dpbsud(SUMS_00, PLANE_0, PANEL_0);
  if constexpr (PLANES == 2) {
    _tile_loadd(PLANE_1, levels + plane, stride);
    _tile_dpbsud(SUMS_01, PLANE_1, PANEL_0);
  }
  if constexpr (PANELS_ == 2) {
    _tile_loadd(PANEL_1, weights[1], TILE_BYTES);
    _tile_dpbsud(SUMS_10, PLANE_0, PANEL_1);
    if constexpr (PLANES == 2) _tile_dpbsud(SUMS_11, PLANE_1, PANEL_1);
  }
}

using TileSums = int32_t[TILE_ROWS][LANES];

template <int PANELS_, int PLANES>
inline void store_tiles(TileSums (&sums)[PANELS_][PLANES]) {
  _tile_stored(SUMS_00, sums[0][0], TILE_BYTES);
  if constexpr (PLANES == 2) _tile_stored(SUMS_01, sums[0][1], TILE_BYTES);
  if constexpr (PANELS_ == 2) _tile_stored(SUMS_10, sums[1][0], TILE_BYTES);
  if constexpr (PANELS_ == 2 && PLANES == 2) _tile_stored(SUMS_11, sums[1][1], TILE_BYTES);
}

// Weights of `inputs` inputs as bytes: 8 bits as they lie there, 4 bits taken apart to `room`.
template <int BITS>
inline const uint8_t* tile_weights(const uint8_t* packed, int inputs, uint8_t* room) {
  if constexpr (BITS == 8) return packed;
  for (int step = 0; step < inputs / STEP; ++step)
    _mm512_storeu_si512(room + step * TILE_BYTES,
                        weights4(packed + step * TILE_BYTES / 2, 0).a);
  written(room);
  return room;
}

inline I16 load_sums(const int32_t* p) { return {_mm512_loadu_si512(p)}; }

template <int BITS, int PANELS_, int PLANES>
void tile_product(const Rounded& x, int64_t row, int rows, const Packed& w, int64_t panel,
                  float* out) {
  constexpr int32_t ZERO = BITS == 8 ? ZERO8 : ZERO4;
  const int64_t groups = x.groups(), panel_bytes = w.panel_bytes();
  const Level* levels = reinterpret_cast<const Level*>(x.levels) + row * x.row_bytes;
  const uint8_t* bytes = w.levels + panel * panel_bytes;
  alignas(64) TileSums dots[PANELS_][PLANES];
  alignas(64) uint8_t room[PANELS_][TILE_BYTES / STEP * TILE_BYTES];
  Tiles tiles(rows);
  for (int64_t group = 0; group < groups; ++group) {
    const int inputs = tile_inputs(x.width(group));
    tiles.take(inputs);
    zero_tiles<PANELS_, PLANES>();
    for (int64_t k = 0; k < x.width(group); k += inputs) {
      const uint8_t* weights[PANELS_];
      for (int p = 0; p < PANELS_; ++p)
        weights[p] = tile_weights<BITS>(bytes + p * panel_bytes, inputs, room[p]);
      multiply_tiles<PANELS_, PLANES>(levels, x.row_bytes, x.padded, weights);
      levels += inputs, bytes += inputs * LANES * BITS / 8;
    }
    store_tiles(dots);
    for (int p = 0; p < PANELS_; ++p) {
      F16 scale = load_scales(w, panel + p, group);
      for (int r = 0; r < rows; ++r) {
        const int64_t at = (row + r) * groups + group;
        I16 whole = load_sums(dots[p][PLANES - 1][r]);
        if constexpr (PLANES == 2) whole = combine(load_sums(dots[p][0][r]), whole);
        whole.a = _mm512_add_epi32(whole.a, set1(-ZERO * x.sums[at]).a);
        float* sum = out + (r * PANELS_ + p) * LANES;
        F16 before = group ? load(sum) : set1(0.0f);
        store(sum, fma(to_float(whole) * scale, set1(x.scales[at]), before));
      }
    }
  }
}

template <int BITS, int PLANES>
void tile_panels(const Rounded& x, int64_t row, int rows, const Packed& w, int64_t panel,
                 int panels, float* out) {
  if (panels == 2) tile_product<BITS, 2, PLANES>(x, row, rows, w, panel, out);
  else tile_product<BITS, 1, PLANES>(x, row, rows, w, panel, out);
}

// Kernels::product of TILES_FROM to TILE_ROWS rows.
inline void product_by_tiles(const Rounded& x, int64_t row, int rows, const Packed& w,
                             int64_t panel, int panels, float* out) {
  auto of = w.bits == 8 ? (x.bits == 16 ? tile_panels<8, 2> : tile_panels<8, 1>)
                        : (x.bits == 16 ? tile_panels<4, 2> : tile_panels<4, 1>);
  of(x, row, rows, w, panel, panels, out);
}

// Products of full tiles alone; how many multiply-adds those are.
inline int64_t multiply_by_tiles(int64_t rounds) {
  alignas(64) static const uint8_t zeros[TILE_ROWS * TILE_BYTES] = {};
  alignas(64) TileSums sums[2][2];
  Tiles tiles(TILE_ROWS);
  tiles.take(TILE_BYTES);
  zero_tiles<2, 2>();
  multiply_tiles<2, 2>(reinterpret_cast<const Level*>(zeros), TILE_BYTES, 0, {zeros, zeros});
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbsud(SUMS_00, PLANE_0, PANEL_0);
    _tile_dpbsud(SUMS_01, PLANE_1, PANEL_0);
    _tile_dpbsud(SUMS_10, PLANE_0, PANEL_1);
    _tile_dpbsud(SUMS_11, PLANE_1, PANEL_1);
  }
  store_tiles(sums);
  return rounds * 4 * TILE_ROWS * LANES * TILE_BYTES;
}

}  // namespace gpt2onnx::amx
