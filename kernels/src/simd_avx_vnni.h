// The thin layer for AVX2 with VNNI: AVX2's, but for products of unsigned and signed bytes.
#pragma once

#define GPT2ONNX_TARGET avx_vnni
#define GPT2ONNX_OWN_PRODUCTS
#include "simd_avx2.h"

namespace gpt2onnx::avx_vnni {

constexpr int STEP = 4, UNITS4 = 1, PLANES16 = 2, ROWS = 4, PANELS = 1, FLOAT_ROWS = 6;
constexpr int64_t AHEAD = 0;  // not measured
constexpr int LOCALITY = 2;
constexpr int ZERO8 = 128, ZERO4 = 8;
using Level = int8_t;
struct Weights { __m256i a, b; };

inline Weights weights8(const uint8_t* p) {
  auto* from = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)};
}
inline __m256i nibbles(const uint8_t* p) {
  __m256i pairs = _mm256_cvtepu16_epi32(half_line(p));
  return _mm256_and_si256(_mm256_or_si256(pairs, _mm256_slli_epi32(pairs, 12)),
                          _mm256_set1_epi32(0x0f0f0f0f));
}
inline Weights weights4(const uint8_t* p, int) { return {nibbles(p), nibbles(p + 16)}; }
inline I16 dot(I16 sum, const Weights& w, const Level* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  __m256i bytes = _mm256_set1_epi32(four);
  return {_mm256_dpbusd_avx_epi32(sum.a, w.a, bytes), _mm256_dpbusd_avx_epi32(sum.b, w.b, bytes)};
}
inline I16 combine(I16 high, I16 low) {
  return {_mm256_add_epi32(_mm256_slli_epi32(high.a, 8), low.a),
          _mm256_add_epi32(_mm256_slli_epi32(high.b, 8), low.b)};
}

#include "one_row.h"
#include "pack_fours.h"

}  // namespace gpt2onnx::avx_vnni
