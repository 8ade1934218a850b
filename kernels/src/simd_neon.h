// The thin layer for Arm's NEON with dot products (from Armv8.2 on).
#pragma once

#include <arm_neon.h>

#include <cstdint>

#ifndef GPT2ONNX_TARGET
#define GPT2ONNX_TARGET neon
#endif

namespace gpt2onnx::GPT2ONNX_TARGET {

struct F16 { float32x4_t v[4]; };
struct I16 { int32x4_t v[4]; };

template <class Of>
inline F16 each(const Of& of) { return {{of(0), of(1), of(2), of(3)}}; }

inline F16 set1(float x) { return each([&](int) { return vdupq_n_f32(x); }); }
inline F16 load(const float* p) { return each([&](int i) { return vld1q_f32(p + 4 * i); }); }
inline F16 load(const uint16_t* p) {
  return each([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
}
inline F16 load(const int8_t* p) {
  int8x16_t bytes = vld1q_s8(p);
  int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
           vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
inline void store(float* p, F16 x) { for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.v[i]); }
inline void store(uint16_t* p, F16 x) {
  for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.v[i])));
}
inline void store(int8_t* p, F16 x) {
  int16x4_t words[4];
  for (int i = 0; i < 4; ++i) words[i] = vqmovn_s32(vcvtnq_s32_f32(x.v[i]));
  vst1_s8(p, vqmovn_s16(vcombine_s16(words[0], words[1])));
  vst1_s8(p + 8, vqmovn_s16(vcombine_s16(words[2], words[3])));
}

inline F16 operator+(F16 x, F16 y) { return each([&](int i) { return vaddq_f32(x.v[i], y.v[i]); }); }
inline F16 operator-(F16 x, F16 y) { return each([&](int i) { return vsubq_f32(x.v[i], y.v[i]); }); }
inline F16 operator*(F16 x, F16 y) { return each([&](int i) { return vmulq_f32(x.v[i], y.v[i]); }); }
inline F16 operator/(F16 x, F16 y) { return each([&](int i) { return vdivq_f32(x.v[i], y.v[i]); }); }
inline F16 fma(F16 x, F16 y, F16 z) {
  return each([&](int i) { return vfmaq_f32(z.v[i], x.v[i], y.v[i]); });
}
// As on x86: the second operand where one isn't a number.
inline F16 max(F16 x, F16 y) {
  return each([&](int i) { return vbslq_f32(vcgtq_f32(x.v[i], y.v[i]), x.v[i], y.v[i]); });
}
inline F16 min(F16 x, F16 y) {
  return each([&](int i) { return vbslq_f32(vcltq_f32(x.v[i], y.v[i]), x.v[i], y.v[i]); });
}
inline F16 abs(F16 x) { return each([&](int i) { return vabsq_f32(x.v[i]); }); }
inline F16 nearest(F16 x) { return each([&](int i) { return vrndnq_f32(x.v[i]); }); }
inline F16 if_less(F16 x, F16 y, F16 yes, F16 no) {
  return each([&](int i) { return vbslq_f32(vcltq_f32(x.v[i], y.v[i]), yes.v[i], no.v[i]); });
}
inline F16 power_of_two(F16 n) {
  return each([&](int i) {
    int32x4_t exponent = vaddq_s32(vcvtnq_s32_f32(n.v[i]), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23));
  });
}

inline I16 set1(int32_t x) {
  int32x4_t all = vdupq_n_s32(x);
  return {{all, all, all, all}};
}
inline F16 to_float(I16 x) { return each([&](int i) { return vcvtq_f32_s32(x.v[i]); }); }

template <class T>
inline void transpose16(const T* keys, int64_t stride, float* out, int64_t out_stride) {
  for (int key = 0; key < 16; key += 4) {
    F16 rows[4];
    for (int i = 0; i < 4; ++i) rows[i] = load(keys + (key + i) * stride);
    for (int part = 0; part < 4; ++part) {
      float32x4x4_t four = {{rows[0].v[part], rows[1].v[part], rows[2].v[part], rows[3].v[part]}};
      float turned[16];
      vst4q_f32(turned, four);  // interleaves: element i of all four, then i + 1
      for (int i = 0; i < 4; ++i)
        vst1q_f32(out + (part * 4 + i) * out_stride + key, vld1q_f32(turned + 4 * i));
    }
  }
}

inline I16 combine(I16 high, I16 low) {
  for (int i = 0; i < 4; ++i) low.v[i] = vaddq_s32(vshlq_n_s32(high.v[i], 8), low.v[i]);
  return low;
}

#ifndef GPT2ONNX_OWN_PRODUCTS  // a layer above has its own

constexpr int STEP = 4, UNITS4 = 1, PLANES16 = 2, ROWS = 4, PANELS = 1, FLOAT_ROWS = 5;
constexpr int64_t AHEAD = 0;  // not measured
constexpr int LOCALITY = 2;
// Weights are signed bytes here.
constexpr int ZERO8 = 0, ZERO4 = 8;
using Level = int8_t;
struct Weights { int8x16_t v[4]; };

inline Weights weights8(const uint8_t* p) {
  auto* from = reinterpret_cast<const int8_t*>(p);
  return {{vld1q_s8(from), vld1q_s8(from + 16), vld1q_s8(from + 32), vld1q_s8(from + 48)}};
}
inline int8x16_t nibbles(uint16x4_t pairs) {
  uint32x4_t wide = vmovl_u16(pairs);
  uint32x4_t both = vorrq_u32(wide, vshlq_n_u32(wide, 12));
  return vreinterpretq_s8_u32(vandq_u32(both, vdupq_n_u32(0x0f0f0f0f)));
}
inline Weights weights4(const uint8_t* p, int) {
  uint16x8_t low = vreinterpretq_u16_u8(vld1q_u8(p)), high = vreinterpretq_u16_u8(vld1q_u8(p + 16));
  return {{nibbles(vget_low_u16(low)), nibbles(vget_high_u16(low)), nibbles(vget_low_u16(high)),
           nibbles(vget_high_u16(high))}};
}
inline I16 dot(I16 sum, const Weights& w, const Level* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  int8x16_t bytes = vreinterpretq_s8_s32(vdupq_n_s32(four));
  for (int i = 0; i < 4; ++i) sum.v[i] = vdotq_s32(sum.v[i], w.v[i], bytes);
  return sum;
}

#include "one_row.h"
#include "pack_fours.h"

#endif

#include "scales.h"

}  // namespace gpt2onnx::GPT2ONNX_TARGET
