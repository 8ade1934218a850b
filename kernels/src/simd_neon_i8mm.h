// The thin layer for Arm's NEON with matrix products of bytes: NEON's, but for products of two rows
// and two outputs at once, of eight inputs each (smmla).
#pragma once

#define GPT2ONNX_TARGET neon_i8mm
#define GPT2ONNX_OWN_PRODUCTS
#include "simd_neon.h"

namespace gpt2onnx::neon_i8mm {

constexpr int STEP = 8, UNITS4 = 1, PLANES16 = 2, ROWS = 4, PANELS = 1, FLOAT_ROWS = 5;
constexpr int64_t AHEAD = 0;  // not measured
constexpr int LOCALITY = 2;
constexpr int ZERO8 = 0, ZERO4 = 8;
using Level = int8_t;
struct Weights { int8x16_t v[8]; };  // of two outputs each

inline Weights weights8(const uint8_t* p) {
  Weights w;
  for (int i = 0; i < 8; ++i) w.v[i] = vld1q_s8(reinterpret_cast<const int8_t*>(p) + 16 * i);
  return w;
}
// The low halves are the first eight outputs.
inline Weights weights4(const uint8_t* p, int) {
  Weights w;
  for (int i = 0; i < 4; ++i) {
    uint8x16_t both = vld1q_u8(p + 16 * i);
    w.v[i] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
    w.v[i + 4] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
  }
  return w;
}

// Two rows times two outputs each: [row 0's two sums, row 1's].
constexpr int DOT_ROWS = 2;
struct Dots { int32x4_t v[8]; };

inline Dots start(const int32_t* off) {
  int32x4_t both = vcombine_s32(vdup_n_s32(off[0]), vdup_n_s32(off[1]));
  return {{both, both, both, both, both, both, both, both}};
}
// `next` is how far the second row is from the first.
inline Dots dot(Dots sums, const Weights& w, const Level* x, int64_t next) {
  int8x16_t rows = vcombine_s8(vld1_s8(x), vld1_s8(x + next));
  for (int i = 0; i < 8; ++i) sums.v[i] = vmmlaq_s32(sums.v[i], rows, w.v[i]);
  return sums;
}
inline I16 row_of(const Dots& dots, int row) {
  I16 all;
  for (int i = 0; i < 4; ++i) {
    int64x2_t low = vreinterpretq_s64_s32(dots.v[2 * i]);
    int64x2_t high = vreinterpretq_s64_s32(dots.v[2 * i + 1]);
    all.v[i] = vreinterpretq_s32_s64(row ? vtrn2q_s64(low, high) : vtrn1q_s64(low, high));
  }
  return all;
}

inline void pack_step8(const uint8_t* from, int64_t stride, uint8_t* to) {
  for (int i = 0; i < 16; ++i) __builtin_memcpy(to + i * 8, from + i * stride, 8);
}
inline void pack_units4(const uint8_t* from, int64_t stride, uint8_t* to) {
  for (int i = 0; i < 8; ++i)
    for (int k = 0; k < 8; ++k)
      to[i * 8 + k] = uint8_t(from[i * stride + k] | from[(i + 8) * stride + k] << 4);
}

}  // namespace gpt2onnx::neon_i8mm
