// The thin layer in plain C++: what every other processor has to agree with, bit for bit.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define GPT2ONNX_TARGET scalar
#define GPT2ONNX_UNROLL  // there are no registers to keep anything in

namespace gpt2onnx::scalar {

// Odd on purpose: tiles of several rows and panels, and ones cut short, are tried here as well.
constexpr int STEP = 2, UNITS4 = 1, PLANES16 = 1, ROWS = 3, PANELS = 2, FLOAT_ROWS = 3;
constexpr int64_t AHEAD = 0;  // not measured
constexpr int LOCALITY = 2;
constexpr int ZERO8 = 128, ZERO4 = 8;
using Level = int16_t;

struct F16 { float v[16]; };
struct I16 { int32_t v[16]; };
struct Weights { int32_t v[16][STEP]; };

template <class Of>
inline F16 each(const Of& of) {
  F16 r;
  for (int i = 0; i < 16; ++i) r.v[i] = of(i);
  return r;
}

inline float from_half(uint16_t half) {
  uint32_t sign = uint32_t(half & 0x8000) << 16, exponent = half >> 10 & 31, rest = half & 1023;
  float value;
  if (exponent == 31) {
    uint32_t bits = sign | 0x7f800000u | rest << 13;
    std::memcpy(&value, &bits, 4);
    return value;
  }
  value = exponent ? std::ldexp(float(rest | 1024), int(exponent) - 25) : std::ldexp(float(rest), -24);
  return sign ? -value : value;
}

inline uint16_t to_half(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  uint16_t sign = uint16_t(bits >> 16 & 0x8000);
  float size = std::fabs(x);
  if (std::isnan(x)) return uint16_t(sign | 0x7e00);
  if (size >= 65520.0f) return uint16_t(sign | 0x7c00);
  if (size < 0x1p-14f) return uint16_t(sign | uint16_t(std::nearbyint(size * 0x1p24f)));
  bits = (bits & 0x7fffffffu) - (112u << 23);            // the exponent's other bias
  bits += 0x0fffu + (bits >> 13 & 1);                    // to the nearest, ties to even
  return uint16_t(sign | uint16_t(bits >> 13));
}

inline F16 set1(float x) { return each([&](int) { return x; }); }
inline F16 load(const float* p) { return each([&](int i) { return p[i]; }); }
inline F16 load(const uint16_t* p) { return each([&](int i) { return from_half(p[i]); }); }
inline F16 load(const int8_t* p) { return each([&](int i) { return float(p[i]); }); }
inline void store(float* p, F16 a) { std::memcpy(p, a.v, sizeof a.v); }
inline void store(uint16_t* p, F16 a) { for (int i = 0; i < 16; ++i) p[i] = to_half(a.v[i]); }
inline void store(int8_t* p, F16 a) { for (int i = 0; i < 16; ++i) p[i] = int8_t(a.v[i]); }
inline void store(int16_t* p, F16 a) { for (int i = 0; i < 16; ++i) p[i] = int16_t(a.v[i]); }

inline F16 operator+(F16 a, F16 b) { return each([&](int i) { return a.v[i] + b.v[i]; }); }
inline F16 operator-(F16 a, F16 b) { return each([&](int i) { return a.v[i] - b.v[i]; }); }
inline F16 operator*(F16 a, F16 b) { return each([&](int i) { return a.v[i] * b.v[i]; }); }
inline F16 operator/(F16 a, F16 b) { return each([&](int i) { return a.v[i] / b.v[i]; }); }
inline F16 fma(F16 a, F16 b, F16 c) {
  return each([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}
inline F16 max(F16 a, F16 b) { return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
inline F16 min(F16 a, F16 b) { return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }
inline F16 abs(F16 a) { return each([&](int i) { return std::fabs(a.v[i]); }); }
inline F16 nearest(F16 a) { return each([&](int i) { return std::nearbyint(a.v[i]); }); }
// a < b ? x : y
inline F16 if_less(F16 a, F16 b, F16 x, F16 y) {
  return each([&](int i) { return a.v[i] < b.v[i] ? x.v[i] : y.v[i]; });
}
// 2 ** n, for whole n from -126 to 127
inline F16 power_of_two(F16 n) {
  return each([&](int i) {
    uint32_t bits = uint32_t(int32_t(n.v[i]) + 127) << 23;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  });
}

inline I16 set1(int32_t x) {
  I16 r;
  for (int i = 0; i < 16; ++i) r.v[i] = x;
  return r;
}
inline F16 to_float(I16 a) { return each([&](int i) { return float(a.v[i]); }); }

// Weights of 16 outputs for STEP inputs: [16][STEP] bytes, or half bytes, the first one low.
// UNITS4 steps of half bytes lie in one place, where a processor takes them apart sooner so.
inline Weights weights8(const uint8_t* p) {
  Weights w;
  for (int i = 0; i < 16; ++i)
    for (int k = 0; k < STEP; ++k) w.v[i][k] = p[i * STEP + k];
  return w;
}
inline Weights weights4(const uint8_t* p, int) {
  Weights w;
  for (int i = 0; i < 16; ++i) w.v[i][0] = p[i] & 15, w.v[i][1] = p[i] >> 4;
  return w;
}
// Each output's sum and its weights times the same STEP inputs.
inline I16 dot(I16 sum, const Weights& w, const Level* x) {
  for (int i = 0; i < 16; ++i)
    for (int k = 0; k < STEP; ++k)
      sum.v[i] = int32_t(uint32_t(sum.v[i]) + uint32_t(w.v[i][k] * x[k]));
  return sum;
}
inline I16 combine(I16, I16 low) { return low; }  // one plane only

#include "one_row.h"

// Packing: levels [16][padded] to weights4's and weights8's order.
inline void pack_step8(const uint8_t* from, int64_t stride, uint8_t* to) {
  for (int i = 0; i < 16; ++i)
    for (int k = 0; k < STEP; ++k) to[i * STEP + k] = from[i * stride + k];
}
inline void pack_units4(const uint8_t* from, int64_t stride, uint8_t* to) {
  for (int i = 0; i < 16; ++i) to[i] = uint8_t(from[i * stride] | from[i * stride + 1] << 4);
}

// keys [16][stride] -> [16 of the head][out_stride], 16 keys
template <class T>
inline void transpose16(const T* keys, int64_t stride, float* out, int64_t out_stride) {
  for (int key = 0; key < 16; ++key) {
    F16 row = load(keys + key * stride);
    for (int i = 0; i < 16; ++i) out[i * out_stride + key] = row.v[i];
  }
}

#include "scales.h"

}  // namespace gpt2onnx::scalar
