// exp, erf and the activation functions over 16 lanes. Included inside a processor's namespace.
//
// The polynomials are least-maximum fits to the functions in double precision: of e^r within half
// an octave, of tanh and erf near 0, and of ln(erfc) from 1 to 4. A NaN stays one: constants stand
// first in max and min, which give their second operand where one isn't a number.

#define EACH UNROLL for (int i = 0; i < N; ++i)

template <int N>
inline F16 polynomial(F16 x, const float (&c)[N]) {
  F16 sum = set1(c[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) sum = fma(sum, x, set1(c[i]));
  return sum;
}

// e^x of each; 0 below -87.3, where floats lose digits, and e^88 from 88 on. Side by side, as every
// step waits for the one before.
template <int N>
inline void powers(F16 (&x)[N]) {
  constexpr float C[] = {1.0f, 1.0f, 0.499999911f, 0.166664198f, 0.0416682251f, 0.00837482419f,
                         0.00138368318f};
  constexpr float LOWEST = -87.3f;
  F16 n[N], r[N], sum[N];
  EACH r[i] = max(set1(LOWEST), min(set1(88.0f), x[i]));
  EACH n[i] = nearest(r[i] * set1(1.44269504f));
  EACH r[i] = fma(n[i], set1(-0.693359375f), r[i]);  // ln 2 in two parts, the first of few bits
  EACH r[i] = fma(n[i], set1(2.12194440e-4f), r[i]);
  EACH sum[i] = set1(C[6]);
#pragma GCC unroll 16
  for (int k = 5; k >= 0; --k) EACH sum[i] = fma(sum[i], r[i], set1(C[k]));
  EACH x[i] = if_less(x[i], set1(LOWEST), set1(0.0f), sum[i] * power_of_two(n[i]));
}

inline F16 exp(F16 x) {
  F16 one[] = {x};
  powers(one);
  return one[0];
}

inline F16 sigmoid(F16 x) {
  F16 one = set1(1.0f);
  return one / (one + exp(set1(0.0f) - x));
}

// `size` with the sign of x
inline F16 signed_as(F16 x, F16 size) { return if_less(x, set1(0.0f), set1(0.0f) - size, size); }

inline F16 tanh(F16 x) {
  constexpr float C[] = {-0.333333343f, 0.133333147f, -0.0539618284f, 0.0217903685f,
                         -0.00841637049f, 0.00237762532f};
  F16 one = set1(1.0f), size = abs(x), square = x * x;
  F16 small = fma(polynomial(square, C) * square, size, size);
  F16 power = exp(set1(-2.0f) * size);
  return signed_as(x, if_less(size, set1(0.6f), small, (one - power) / (one + power)));
}

inline F16 erf(F16 x) {
  constexpr float NEAR[] = {1.12837923f, -0.376126379f, 0.112837829f, -0.0268654451f,
                            0.00522107491f, -0.000848471129f, 0.000112705449f, -9.68013865e-06f};
  constexpr float FAR[] = {0.000188040241f, -1.12957847f, -0.633219898f, -0.108418576f,
                           0.0252082571f, -0.00420456193f, 0.000441336393f, -2.16868502e-05f};
  F16 size = abs(x), square = x * x;
  F16 far = set1(1.0f) - exp(polynomial(min(set1(4.0f), size), FAR));
  return signed_as(x, if_less(size, set1(1.0f), size * polynomial(square, NEAR), far));
}

inline F16 gelu(F16 x) {
  return set1(0.5f) * x * (set1(1.0f) + erf(x * set1(0.70710678f)));
}

inline F16 clip(F16 x, float low, float high) { return max(set1(low), min(set1(high), x)); }

template <Activation KIND>
inline F16 activated(F16 x) {
  F16 zero = set1(0.0f), one = set1(1.0f);
  if constexpr (KIND == Activation::gelu) return gelu(x);
  // 1 + tanh(u) is 2 sigmoid(2 u).
  if constexpr (KIND == Activation::gelu_tanh)
    return x * sigmoid(x * fma(x * x, set1(0.0713548163f), set1(1.59576912f)));
  if constexpr (KIND == Activation::gelu_10) return clip(gelu(x), -10, 10);
  if constexpr (KIND == Activation::laplace)
    return set1(0.5f) * (one + erf((x - set1(0.707107f)) / set1(0.39893835f)));
  if constexpr (KIND == Activation::leaky_relu) return if_less(x, zero, x * set1(0.01f), x);
  if constexpr (KIND == Activation::mish) {  // tanh(ln(1 + e^x)), with e^x as the only power
    F16 power = exp(min(set1(20.0f), x)), n = power * (power + set1(2.0f));
    return x * (n / (n + set1(2.0f)));
  }
  if constexpr (KIND == Activation::quick_gelu) return x * sigmoid(set1(1.702f) * x);
  if constexpr (KIND == Activation::relu) return if_less(x, zero, zero, x);
  if constexpr (KIND == Activation::relu2) {
    F16 positive = if_less(x, zero, zero, x);
    return positive * positive;
  }
  if constexpr (KIND == Activation::relu6) return clip(x, 0, 6);
  if constexpr (KIND == Activation::sigmoid) return sigmoid(x);
  if constexpr (KIND == Activation::silu) return x * sigmoid(x);
  if constexpr (KIND == Activation::tanh) return tanh(x);
  return x;
}
