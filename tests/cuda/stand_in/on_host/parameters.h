// What kernels are launched with, in ONNX Runtime's types.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace host {

using half = _Float16;

struct Grid {
  dim3 blocks, threads;
};

inline void expect(bool is, const char* what) {
  if (!is) throw std::runtime_error(std::string("the stand-in for CUDA computes only ") + what);
}

template <typename Type, int capacity = 8>
struct TArray {
  int size;
  Type data[capacity];
};

struct DivMod {  // by a number; the others make it fast
  uint32_t by, multiplier, shift;
};

struct Nothing {};  // an operator, which the kernel's name tells

}  // namespace host
