// The intrinsics of VNNI and AVX-512 that the layers use, written out after Intel's guide, so that
// the layers run on a processor without them. Included before everything else.
// https://www.intel.com/content/www/us/en/docs/intrinsics-guide/index.html
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace in_avx2 {

// Vectors of 64 bytes, which GCC takes apart where there are no registers of that size.
using F = __m512;
typedef int32_t I __attribute__((vector_size(64)));

struct Bytes { uint8_t all[64]; };

template <class To, class From>
inline To as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class V, class Of>
inline V each(const Of& of) {
  V all;
  for (int i = 0; i < 16; ++i) all[i] = of(i);
  return all;
}

inline F unpacked(F x, F y, int from) {
  return each<F>([=](int i) { return (i % 2 ? y : x)[i / 4 * 4 + from + i % 4 / 2]; });
}
inline F shuffled(F x, F y, int how) {
  return each<F>([=](int i) { return (i % 4 < 2 ? x : y)[i / 4 * 4 + (how >> 2 * (i % 4) & 3)]; });
}
inline F shuffled_fours(F x, F y, int how) {
  return each<F>([=](int i) { return (i < 8 ? x : y)[(how >> 2 * (i / 4) & 3) * 4 + i % 4]; });
}

// Four products of an unsigned and a signed byte, added to a sum.
inline int32_t dpbusd(int32_t sum, uint32_t u, uint32_t s) {
  for (int i = 0; i < 32; i += 8)
    sum = int32_t(uint32_t(sum) + uint32_t(int(uint8_t(u >> i)) * int(int8_t(s >> i))));
  return sum;
}

inline int32_t dpwssd(int32_t sum, uint32_t x, uint32_t y) {
  for (int i = 0; i < 32; i += 16)
    sum = int32_t(uint32_t(sum) + uint32_t(int(int16_t(x >> i)) * int(int16_t(y >> i))));
  return sum;
}

inline __m256i dpbusd256(__m256i sum, __m256i u, __m256i s) {
  int32_t a[8], b[8], c[8];
  std::memcpy(a, &sum, 32), std::memcpy(b, &u, 32), std::memcpy(c, &s, 32);
  for (int i = 0; i < 8; ++i) a[i] = dpbusd(a[i], uint32_t(b[i]), uint32_t(c[i]));
  std::memcpy(&sum, a, 32);
  return sum;
}

inline __m512 loadu(const void* p) {
  __m512 all;
  std::memcpy(&all, p, 64);
  return all;
}
inline __m512i i(const I& x) { return as<__m512i>(x); }
inline I i(__m512i x) { return as<I>(x); }

inline __m512 cvtph(__m256i half) {
  __m256 two[2] = {_mm256_cvtph_ps(_mm256_castsi256_si128(half)),
                   _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1))};
  return loadu(two);
}
inline __m256i to_half(__m512 x) {
  float all[16];
  std::memcpy(all, &x, 64);
  return _mm256_set_m128i(_mm256_cvtps_ph(_mm256_loadu_ps(all + 8), 0),
                          _mm256_cvtps_ph(_mm256_loadu_ps(all), 0));
}
inline __m256 half_of(__m512 x, int which) {
  __m256 two[2];
  std::memcpy(two, &x, 64);
  return two[which];
}
inline __m512i cvtps_epi32(__m512 x) {
  return i(each<I>([&](int n) { return int32_t(std::nearbyint(x[n])); }));
}
inline __m128i saturate(__m512i x) {
  int8_t all[16];
  for (int n = 0; n < 16; ++n) {
    int32_t value = i(x)[n];
    all[n] = int8_t(value > 127 ? 127 : value < -128 ? -128 : value);
  }
  __m128i bytes;
  std::memcpy(&bytes, all, 16);
  return bytes;
}
template <class T, class Vector>
inline __m512i widened(Vector x) {
  T all[16];
  std::memcpy(all, &x, sizeof all);
  return i(each<I>([&](int n) { return int32_t(all[n]); }));
}
inline void scatter(float* to, __m512i places, __m512 x) {
  for (int n = 0; n < 16; ++n) to[i(places)[n]] = x[n];
}

}  // namespace in_avx2

#define IN_F(body) in_avx2::each<in_avx2::F>([=](int lane_) { return body; })
#define IN_I(body) in_avx2::i(in_avx2::each<in_avx2::I>([=](int lane_) { return body; }))
#define F_(x) (x)[lane_]
#define I_(x) in_avx2::i(x)[lane_]

#define _mm256_dpbusd_avx_epi32(sum, u, s) in_avx2::dpbusd256(sum, u, s)
#define _mm512_dpbusd_epi32(sum, u, s) \
  IN_I(in_avx2::dpbusd(I_(sum), uint32_t(I_(u)), uint32_t(I_(s))))
#define _mm512_set1_ps(x) IN_F((void(lane_), x))
#define _mm512_set1_epi32(x) IN_I((void(lane_), x))
#define _mm512_loadu_ps(p) in_avx2::loadu(p)
#define _mm512_loadu_si512(p) in_avx2::as<__m512i>(in_avx2::loadu(p))
#define _mm512_storeu_si512(p, x) std::memcpy(p, in_avx2::as<in_avx2::Bytes>(x).all, 64)
#define _mm512_storeu_ps(p, x) in_avx2::scatter(p, IN_I(lane_), x)
#define _mm512_cvtph_ps(x) in_avx2::cvtph(x)
#define _mm512_cvtps_ph(x, mode) in_avx2::to_half(x)
#define _mm512_cvtepi32_ps(x) IN_F(float(I_(x)))
#define _mm512_cvtps_epi32(x) in_avx2::cvtps_epi32(x)
#define _mm512_cvtsepi32_epi8(x) in_avx2::saturate(x)
#define _mm512_cvtepi8_epi32(x) in_avx2::widened<int8_t>(x)
#define _mm512_cvtepu16_epi32(x) in_avx2::widened<uint16_t>(x)
#define _mm512_add_ps(x, y) IN_F(F_(x) + F_(y))
#define _mm512_sub_ps(x, y) IN_F(F_(x) - F_(y))
#define _mm512_mul_ps(x, y) IN_F(F_(x) * F_(y))
#define _mm512_div_ps(x, y) IN_F(F_(x) / F_(y))
#define _mm512_fmadd_ps(x, y, z) IN_F(std::fma(F_(x), F_(y), F_(z)))
#define _mm512_max_ps(x, y) IN_F(F_(x) > F_(y) ? F_(x) : F_(y))
#define _mm512_min_ps(x, y) IN_F(F_(x) < F_(y) ? F_(x) : F_(y))
#define _mm512_abs_ps(x) IN_F(std::fabs(F_(x)))
#define _mm512_roundscale_ps(x, mode) IN_F(std::nearbyint(F_(x)))
#define _mm512_cmp_ps_mask(x, y, how) IN_I(F_(x) < F_(y))
#define _mm512_mask_blend_ps(mask, no, yes) IN_F(I_(mask) ? F_(yes) : F_(no))
#define _mm512_add_epi32(x, y) IN_I(int32_t(uint32_t(I_(x)) + uint32_t(I_(y))))
#define _mm512_sub_epi32(x, y) IN_I(int32_t(uint32_t(I_(x)) - uint32_t(I_(y))))
#define _mm512_dpwssd_epi32(sum, x, y) \
  IN_I(in_avx2::dpwssd(I_(sum), uint32_t(I_(x)), uint32_t(I_(y))))
#define _mm512_slli_epi32(x, by) IN_I(int32_t(uint32_t(I_(x)) << by))
#define _mm512_and_si512(x, y) IN_I(I_(x) & I_(y))
#define _mm512_or_si512(x, y) IN_I(I_(x) | I_(y))
#define _mm512_castps512_ps256(x) in_avx2::half_of(x, 0)
#define _mm512_extractf32x8_ps(x, which) in_avx2::half_of(x, which)
#define _mm512_castsi512_ps(x) in_avx2::as<__m512>(x)
#define _mm512_unpacklo_ps(x, y) in_avx2::unpacked(x, y, 0)
#define _mm512_unpackhi_ps(x, y) in_avx2::unpacked(x, y, 2)
#define _mm512_shuffle_ps(x, y, how) in_avx2::shuffled(x, y, how)
#define _mm512_shuffle_f32x4(x, y, how) in_avx2::shuffled_fours(x, y, how)
