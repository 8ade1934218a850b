// The thin layer for AVX-512 (F, BW, VL, DQ) with VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>

#ifndef GPT2ONNX_TARGET
#define GPT2ONNX_TARGET avx512_vnni
#endif

namespace gpt2onnx::GPT2ONNX_TARGET {

struct F16 { __m512 a; };
struct I16 { __m512i a; };

inline F16 set1(float x) { return {_mm512_set1_ps(x)}; }
inline F16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline F16 load(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline F16 load(const int8_t* p) {
  __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
}
inline void store(float* p, F16 x) { _mm512_storeu_ps(p, x.a); }
inline void store(uint16_t* p, F16 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
}
inline void store(int8_t* p, F16 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x.a)));
}

inline F16 operator+(F16 x, F16 y) { return {_mm512_add_ps(x.a, y.a)}; }
inline F16 operator-(F16 x, F16 y) { return {_mm512_sub_ps(x.a, y.a)}; }
inline F16 operator*(F16 x, F16 y) { return {_mm512_mul_ps(x.a, y.a)}; }
inline F16 operator/(F16 x, F16 y) { return {_mm512_div_ps(x.a, y.a)}; }
inline F16 fma(F16 x, F16 y, F16 z) { return {_mm512_fmadd_ps(x.a, y.a, z.a)}; }
inline F16 max(F16 x, F16 y) { return {_mm512_max_ps(x.a, y.a)}; }
inline F16 min(F16 x, F16 y) { return {_mm512_min_ps(x.a, y.a)}; }
inline F16 abs(F16 x) { return {_mm512_abs_ps(x.a)}; }
inline F16 nearest(F16 x) {
  return {_mm512_roundscale_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline F16 if_less(F16 x, F16 y, F16 yes, F16 no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.a, y.a, _CMP_LT_OQ), no.a, yes.a)};
}
inline F16 power_of_two(F16 n) {
  __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n.a), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23))};
}

#include "folds_x86.h"
inline float total(F16 x) {
  return total(_mm256_add_ps(_mm512_castps512_ps256(x.a), _mm512_extractf32x8_ps(x.a, 1)));
}
inline float largest(F16 x) {
  return largest(_mm256_max_ps(_mm512_castps512_ps256(x.a), _mm512_extractf32x8_ps(x.a, 1)));
}

inline I16 set1(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline F16 to_float(I16 x) { return {_mm512_cvtepi32_ps(x.a)}; }

// In fours of keys first, then in fours of those.
template <class T>
inline void transpose16(const T* keys, int64_t stride, float* out, int64_t out_stride) {
  __m512 fours[4][4];  // [keys / 4][i]: of these four keys the elements i, i + 4, i + 8 and i + 12
#pragma GCC unroll 4
  for (int four = 0; four < 4; ++four) {
    __m512 row[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) row[i] = load(keys + (4 * four + i) * stride).a;
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      __m512 first = half ? _mm512_unpackhi_ps(row[0], row[1]) : _mm512_unpacklo_ps(row[0], row[1]);
      __m512 next = half ? _mm512_unpackhi_ps(row[2], row[3]) : _mm512_unpacklo_ps(row[2], row[3]);
      fours[four][2 * half] = _mm512_shuffle_ps(first, next, 0x44);
      fours[four][2 * half + 1] = _mm512_shuffle_ps(first, next, 0xee);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    __m512 even = _mm512_shuffle_f32x4(fours[0][i], fours[1][i], 0x88),
           odd = _mm512_shuffle_f32x4(fours[0][i], fours[1][i], 0xdd),
           even_next = _mm512_shuffle_f32x4(fours[2][i], fours[3][i], 0x88),
           odd_next = _mm512_shuffle_f32x4(fours[2][i], fours[3][i], 0xdd);
    float* to = out + i * out_stride;
    _mm512_storeu_ps(to, _mm512_shuffle_f32x4(even, even_next, 0x88));
    _mm512_storeu_ps(to + 4 * out_stride, _mm512_shuffle_f32x4(odd, odd_next, 0x88));
    _mm512_storeu_ps(to + 8 * out_stride, _mm512_shuffle_f32x4(even, even_next, 0xdd));
    _mm512_storeu_ps(to + 12 * out_stride, _mm512_shuffle_f32x4(odd, odd_next, 0xdd));
  }
}

// Halves are turned as they are, eight keys in each half of a register, and only then made floats.
inline void transpose16(const uint16_t* keys, int64_t stride, float* out, int64_t out_stride) {
  __m256i eights[2][8];  // [keys / 8][i]: of these eight keys the elements i and i + 8
#pragma GCC unroll 2
  for (int eight = 0; eight < 2; ++eight) {
    __m256i pairs[2][4], fours[2][4];  // [element / 4][keys / 2], [keys / 4][element / 2]
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      auto* row = reinterpret_cast<const __m256i*>(keys + (8 * eight + 2 * i) * stride);
      auto* next = reinterpret_cast<const __m256i*>(keys + (8 * eight + 2 * i + 1) * stride);
      pairs[0][i] = _mm256_unpacklo_epi16(_mm256_loadu_si256(row), _mm256_loadu_si256(next));
      pairs[1][i] = _mm256_unpackhi_epi16(_mm256_loadu_si256(row), _mm256_loadu_si256(next));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int half = i / 2, four = i % 2;
      const __m256i first = pairs[half][2 * four], next = pairs[half][2 * four + 1];
      fours[four][2 * half] = _mm256_unpacklo_epi32(first, next);
      fours[four][2 * half + 1] = _mm256_unpackhi_epi32(first, next);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      eights[eight][2 * i] = _mm256_unpacklo_epi64(fours[0][i], fours[1][i]);
      eights[eight][2 * i + 1] = _mm256_unpackhi_epi64(fours[0][i], fours[1][i]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const __m256i low = _mm256_permute2x128_si256(eights[0][i], eights[1][i], 0x20),
                  high = _mm256_permute2x128_si256(eights[0][i], eights[1][i], 0x31);
    _mm512_storeu_ps(out + i * out_stride, _mm512_cvtph_ps(low));
    _mm512_storeu_ps(out + (i + 8) * out_stride, _mm512_cvtph_ps(high));
  }
}

constexpr int STEP = 4, UNITS4 = 1, PLANES16 = 2, ROWS = 8, PANELS = 2, FLOAT_ROWS = 12;
// Weights are asked for so many bytes before they are used, into the second-level cache: two panels
// and a tile's rows fill the first one.
constexpr int64_t AHEAD = 4096;
constexpr int LOCALITY = 2;
constexpr int ZERO8 = 128, ZERO4 = 8;
using Level = int8_t;
struct Weights { __m512i a; };

inline Weights weights8(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline Weights weights4(const uint8_t* p, int) {
  __m512i pairs =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_and_si512(_mm512_or_si512(pairs, _mm512_slli_epi32(pairs, 12)),
                           _mm512_set1_epi32(0x0f0f0f0f))};
}
inline I16 dot(I16 sum, const Weights& w, const Level* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  __m512i bytes = _mm512_set1_epi32(four);
#ifdef __AVX512VNNI__
  // Written out: GCC copies every sum.
  asm("vpdpbusd %[x], %[w], %[sum]" : [sum] "+v"(sum.a) : [w] "v"(w.a), [x] "v"(bytes));
  return sum;
#else  // under emulation
  return {_mm512_dpbusd_epi32(sum.a, w.a, bytes)};
#endif
}
inline I16 combine(I16 high, I16 low) {
  return {_mm512_add_epi32(_mm512_slli_epi32(high.a, 8), low.a)};
}

#include "one_row.h"
#include "pack_fours.h"
#include "scales.h"

}  // namespace gpt2onnx::GPT2ONNX_TARGET
