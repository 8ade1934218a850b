// What the stand-in's device does with the work it is given: idle.cpp nothing, on_host/compute.cpp
// all of it. cuda.cpp decides when: at once, or whenever the graph is launched that it was
// captured in.

#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <string>

#define CUDA extern "C"

namespace device {

using Work = std::function<void()>;

extern const int access;  // the host's to the device's memory, as mmap takes it

// Work for later; empty where nothing is to be done. Addresses are read when it is done, arguments
// before, as CUDA does. `direction` is where the addresses really lie.
Work copy(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
          size_t height, cudaMemcpyKind direction);
Work fill(void* to, int value, size_t bytes);
Work value(void* to, const std::string& variable, size_t bytes);
Work kernel(const std::string& name, dim3 grid, dim3 block, void** arguments);

// cuda.cpp's: does it in its turn.
void submit(Work work);

}  // namespace device

CUDA int cuda_stand_in_record(const char* kind, const char* name);
CUDA int cuda_stand_in_lacks(const char* name);
