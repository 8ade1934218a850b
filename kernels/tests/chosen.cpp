// Prints which kernels this processor runs, the best one first, and which it takes.
#include <cstdio>

#include "kernels.h"
#include "ort.h"

extern "C" const char* gpt2onnx_kernels_here();

void gpt2onnx::fail(const std::string& message) { throw Failure(message); }

int main() {
  std::printf("%s, takes %s\n", gpt2onnx_kernels_here(), gpt2onnx::kernels().name);
}
