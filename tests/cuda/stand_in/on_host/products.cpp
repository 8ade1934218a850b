// cuBLAS' products. Its matrices lie column by column.

#include <library_types.h>

#include <algorithm>
#include <vector>

#include "../device.h"
#include "parameters.h"

using host::expect;
using host::half;

namespace {

// C = alpha op(A) op(B) + beta C, [m, k] times [k, n].
template <typename Type>
void multiply(bool a_is_transposed, bool b_is_transposed, int m, int n, int k, float alpha,
              const Type* a, int lda, const Type* b, int ldb, float beta, Type* c, int ldc) {
  const long a_row = a_is_transposed ? lda : 1, a_column = a_is_transposed ? 1 : lda;
  const long b_row = b_is_transposed ? ldb : 1, b_column = b_is_transposed ? 1 : ldb;
  std::vector<float> sums(m);
  for (long column = 0; column < n; ++column) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (long at = 0; at < k; ++at) {
      const float times = b[at * b_row + column * b_column];
      for (long row = 0; row < m; ++row) sums[row] += a[row * a_row + at * a_column] * times;
    }
    Type* to = c + column * ldc;
    for (long row = 0; row < m; ++row)
      to[row] = alpha * sums[row] + (beta == 0 ? 0 : beta * to[row]);
  }
}


}  // namespace

CUDA int cublasSgemm_v2(void*, int a_is_transposed, int b_is_transposed, int m, int n, int k,
                        const float* alpha, const float* a, int lda, const float* b, int ldb,
                        const float* beta, float* c, int ldc) {
  cuda_stand_in_record("product", __func__);
  device::submit([=, alpha = *alpha, beta = *beta] {
    multiply(a_is_transposed, b_is_transposed, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  });
  return 0;
}

CUDA int cublasGemmEx(void*, int a_is_transposed, int b_is_transposed, int m, int n, int k,
                      const void* alpha, const half* a, cudaDataType a_type, int lda, const half* b,
                      cudaDataType b_type, int ldb, const void* beta, half* c, cudaDataType c_type,
                      int ldc, int computes_in, int) {
  cuda_stand_in_record("product", __func__);
  expect(a_type == CUDA_R_16F && b_type == CUDA_R_16F && c_type == CUDA_R_16F, "products of fp16");
  const bool in_half = computes_in == 64;  // CUBLAS_COMPUTE_16F
  const auto number = [=](const void* of) {
    return in_half ? static_cast<float>(*static_cast<const half*>(of))
                   : *static_cast<const float*>(of);
  };
  device::submit([=, alpha = number(alpha), beta = number(beta)] {
    multiply(a_is_transposed, b_is_transposed, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  });
  return 0;
}
