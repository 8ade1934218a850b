// The thin layer for AVX2 with FMA and F16C.
//
// Products of bytes are made of 16-bit levels by vpmaddwd: vpmaddubsw, which takes bytes, clips the
// sum of each two products at 16 bits. It multiplies as many a cycle, and 16-bit activations cost
// nothing more.
#pragma once

#include <immintrin.h>

#include <cstdint>

#ifndef GPT2ONNX_TARGET
#define GPT2ONNX_TARGET avx2
#endif

namespace gpt2onnx::GPT2ONNX_TARGET {

struct F16 { __m256 a, b; };
struct I16 { __m256i a, b; };

inline F16 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline __m128i half_line(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline F16 load(const uint16_t* p) {
  return {_mm256_cvtph_ps(half_line(p)), _mm256_cvtph_ps(half_line(p + 8))};
}
inline F16 load(const int8_t* p) {
  __m128i bytes = half_line(p);
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}
inline void store(float* p, F16 x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
inline void store(uint16_t* p, F16 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8),
                   _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
// Whole numbers to 16 bits.
inline __m256i words(F16 x) {
  __m256i packed = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
  return _mm256_permute4x64_epi64(packed, 0xd8);
}
inline void store(int16_t* p, F16 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), words(x));
}
inline void store(int8_t* p, F16 x) {
  __m256i both = words(x);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packs_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1)));
}

inline F16 operator+(F16 x, F16 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline F16 operator-(F16 x, F16 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline F16 operator*(F16 x, F16 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline F16 operator/(F16 x, F16 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline F16 fma(F16 x, F16 y, F16 z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline F16 max(F16 x, F16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline F16 min(F16 x, F16 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline F16 abs(F16 x) {
  __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
inline F16 nearest(F16 x) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.a, mode), _mm256_round_ps(x.b, mode)};
}
inline F16 if_less(F16 x, F16 y, F16 yes, F16 no) {
  return {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
          _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}
inline __m256 power_of_two(__m256 n) {
  __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
inline F16 power_of_two(F16 n) { return {power_of_two(n.a), power_of_two(n.b)}; }

#include "folds_x86.h"
inline float total(F16 x) { return total(_mm256_add_ps(x.a, x.b)); }
inline float largest(F16 x) { return largest(_mm256_max_ps(x.a, x.b)); }

inline I16 set1(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline F16 to_float(I16 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }

// Rows of 8 -> columns, [8][stride]
inline void transpose8(const __m256 (&row)[8], float* out, int64_t stride) {
  __m256 pair[8], four[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    pair[2 * i] = _mm256_unpacklo_ps(row[2 * i], row[2 * i + 1]);
    pair[2 * i + 1] = _mm256_unpackhi_ps(row[2 * i], row[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    four[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    four[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
    four[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    four[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * stride, _mm256_permute2f128_ps(four[i], four[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * stride, _mm256_permute2f128_ps(four[i], four[i + 4], 0x31));
  }
}
template <class T>
inline void transpose16(const T* keys, int64_t stride, float* out, int64_t out_stride) {
  for (int half = 0; half < 16; half += 8) {
    __m256 low[8], high[8];
#pragma GCC unroll 8
    for (int key = 0; key < 8; ++key) {
      F16 row = load(keys + (half + key) * stride);
      low[key] = row.a;
      high[key] = row.b;
    }
    transpose8(low, out + half, out_stride);
    transpose8(high, out + 8 * out_stride + half, out_stride);
  }
}

#ifndef GPT2ONNX_OWN_PRODUCTS  // a layer above has its own

constexpr int STEP = 2, UNITS4 = 2, PLANES16 = 1, ROWS = 6, PANELS = 1, FLOAT_ROWS = 6;
// Weights are asked for a page before they are used: the processor itself looks no further than to
// the end of one.
constexpr int64_t AHEAD = 4096;
constexpr int LOCALITY = 3;
// Weights are signed bytes here.
constexpr int ZERO8 = 0, ZERO4 = 8;
using Level = int16_t;
struct Weights { __m256i a, b; };

inline Weights weights8(const uint8_t* p) {
  return {_mm256_cvtepi8_epi16(half_line(p)), _mm256_cvtepi8_epi16(half_line(p + 16))};
}
// Each 16-bit word has four levels: of two outputs' halves, and of two steps.
inline Weights weights4(const uint8_t* p, int unit) {
  __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  __m256i low = _mm256_set1_epi16(15);
  if (unit == 0)
    return {_mm256_and_si256(words, low), _mm256_and_si256(_mm256_srli_epi16(words, 4), low)};
  return {_mm256_and_si256(_mm256_srli_epi16(words, 8), low), _mm256_srli_epi16(words, 12)};
}
inline I16 dot(I16 sum, const Weights& w, const Level* x) {
  int32_t both;
  __builtin_memcpy(&both, x, 4);
  // Written out: GCC would multiply all before it adds, for which registers don't suffice, or copy
  // every sum.
  __m256i pair = _mm256_set1_epi32(both), first;
  asm("vpmaddwd %[pair], %[wa], %[first]\n\tvpmaddwd %[pair], %[wb], %[pair]\n\t"
      "vpaddd %[first], %[a], %[a]\n\tvpaddd %[pair], %[b], %[b]"
      : [a] "+x"(sum.a), [b] "+x"(sum.b), [pair] "+x"(pair), [first] "=&x"(first)
      : [wa] "x"(w.a), [wb] "x"(w.b));
  return sum;
}
inline I16 combine(I16, I16 low) { return low; }

#include "one_row.h"

inline void pack_step8(const uint8_t* from, int64_t stride, uint8_t* to) {
  for (int i = 0; i < 16; ++i) to[i * 2] = from[i * stride], to[i * 2 + 1] = from[i * stride + 1];
}
// Word 2 n + k has inputs k and k + 2 of outputs n and n + 8.
inline void pack_units4(const uint8_t* from, int64_t stride, uint8_t* to) {
  for (int n = 0; n < 8; ++n)
    for (int k = 0; k < 2; ++k) {
      const uint8_t *first = from + n * stride + k, *second = first + 8 * stride;
      to[4 * n + 2 * k] = uint8_t(first[0] | second[0] << 4);
      to[4 * n + 2 * k + 1] = uint8_t(first[2] | second[2] << 4);
    }
}

#endif

#include "scales.h"

}  // namespace gpt2onnx::GPT2ONNX_TARGET
