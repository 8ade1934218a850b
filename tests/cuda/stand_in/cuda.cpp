// A stand-in for CUDA's libraries where there is no GPU: what the CUDA provider asks of them is
// recorded, and given to a device.h that does nothing or computes. One device, as an H200 describes
// itself; streams, events and graph capture as their caller sees them.
//
// CUDA_STAND_IN_RECORD names the file of the record, a line an event, parted by tabs: the kind with
// "captured " before it if it went into a graph, how much (bytes, or 0), the name. record.py reads
// it. CUDA_STAND_IN_MEMORY is how many bytes the device has, 140 GiB unless set. build.py adds the
// functions that the provider wants and that aren't here.

#include <cxxabi.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "device.h"

namespace {

using Graph = std::vector<device::Work>;

std::mutex guard;
std::map<const char*, size_t> device_memory;  // where it begins, and its bytes
std::map<const void*, std::string> kernels;   // by the host's function that launches it
std::map<const void*, std::string> variables; // the device's own, by what the host has for them
cudaStream_t captured = nullptr;              // the stream that is being captured
Graph capture;                                // and what was so far
thread_local cudaError_t last_error = cudaSuccess;

void record(const char* kind, size_t amount, const std::string& name, bool capturing = captured) {
  static FILE* file = [] {
    const char* path = std::getenv("CUDA_STAND_IN_RECORD");
    return path ? std::fopen(path, "a") : nullptr;
  }();
  if (!file) return;
  std::fprintf(file, "%s%s\t%zu\t%s\n", capturing ? "captured " : "", kind, amount, name.c_str());
  std::fflush(file);  // the process may die before it ends
}

size_t all_memory() {
  const char* bytes = std::getenv("CUDA_STAND_IN_MEMORY");
  return bytes ? std::stoull(bytes) : 140ull << 30;
}

cudaError_t refuse(cudaError_t error, const std::string& why) {
  record("refused", 0, why, false);
  return last_error = error;
}

// The provider captures in the mode "global", which forbids every thread what may wait.
cudaError_t outside_capture(const char* function) {
  if (!captured) return cudaSuccess;
  return refuse(cudaErrorStreamCaptureUnsupported, std::string(function) + " while capturing");
}

// The default stream waits for the captured one; functions without a stream work on it.
cudaError_t allowed(const char* function, cudaStream_t stream) {
  return stream && stream != cudaStreamLegacy ? cudaSuccess : outside_capture(function);
}

cudaError_t wait(const char* function) {
  if (auto error = outside_capture(function)) return error;
  record("synchronization", 0, function);
  return cudaSuccess;
}

// Whether the address is of device_memory.
bool on_device(const void* address) {
  std::lock_guard<std::mutex> hold(guard);
  auto after = device_memory.upper_bound(static_cast<const char*>(address));
  if (after == device_memory.begin()) return false;
  auto block = std::prev(after);
  return address < block->first + block->second;
}

// A copy of `height` rows, each a pitch after the last.
cudaError_t copy(const char* function, void* to, size_t to_pitch, const void* from,
                 size_t from_pitch, size_t width, size_t height, cudaMemcpyKind kind,
                 cudaStream_t stream = nullptr) {
  if (auto error = allowed(function, stream)) return error;
  if (!width || !height) return cudaSuccess;  // nothing, to or from nowhere
  static const char* kinds[] = {"on the host", "to the device", "from the device", "on the device"};
  const int is = on_device(to) + 2 * on_device(from);  // as cudaMemcpyKind counts
  if (kind != cudaMemcpyDefault && kind != is)
    return refuse(cudaErrorInvalidMemcpyDirection,
                  std::string(function) + ": told the direction " + std::to_string(kind) +
                      ", its addresses lie " + kinds[is]);
  record(kinds[is], width * height, function);
  const auto direction = static_cast<cudaMemcpyKind>(is);
  device::submit(device::copy(to, to_pitch, from, from_pitch, width, height, direction));
  return cudaSuccess;
}

cudaError_t fill(const char* function, void* to, int value, size_t bytes, cudaStream_t stream) {
  if (auto error = allowed(function, stream)) return error;
  if (!bytes) return cudaSuccess;
  if (!on_device(to)) return refuse(cudaErrorInvalidValue, std::string(function) + " on the host");
  record("memset", bytes, function);
  device::submit(device::fill(to, value, bytes));
  return cudaSuccess;
}

std::string demangled(const char* name) {
  char* plain = abi::__cxa_demangle(name, nullptr, nullptr, nullptr);
  std::string text = plain ? plain : name;
  std::free(plain);
  return text;
}

cudaError_t launch(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared,
                   cudaStream_t stream) {
  const auto found = kernels.find(function);
  const std::string name = found == kernels.end() ? "?" : demangled(found->second.c_str());
  if (auto error = allowed("a launch on the default stream", stream)) return error;
  const bool empty = !grid.x || !grid.y || !grid.z || !block.x || !block.y || !block.z;
  if (empty || block.x * block.y * block.z > 1024 || grid.y > 65535 || grid.z > 65535 ||
      shared > 232448) {
    char sizes[160];
    std::snprintf(sizes, sizeof sizes, "grid %u %u %u, block %u %u %u, %zu bytes shared: ", grid.x,
                  grid.y, grid.z, block.x, block.y, block.z, shared);
    return refuse(cudaErrorInvalidConfiguration, sizes + name);
  }
  record("kernel", 0, name);
  device::submit(device::kernel(name, grid, block, arguments));
  return cudaSuccess;
}

}  // namespace

void device::submit(Work work) {
  if (!work) return;
  if (captured) capture.push_back(std::move(work));
  else work();
}

// For build.py's functions, and for whoever says in the record where something begins.
CUDA int cuda_stand_in_record(const char* kind, const char* name) {
  record(kind, 0, name);
  return 0;
}
CUDA int cuda_stand_in_lacks(const char* name) {
  return refuse(cudaErrorNotSupported, std::string(name) + ", which the stand-in doesn't have");
}

// Memory

CUDA cudaError_t cudaMalloc(void** to, size_t bytes) {
  if (auto error = outside_capture(__func__)) return error;
  std::lock_guard<std::mutex> hold(guard);
  size_t used = 0;
  for (auto& [_, size] : device_memory) used += size;
  if (used + bytes > all_memory()) return last_error = cudaErrorMemoryAllocation;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  *to = mmap(nullptr, bytes + 1, device::access, flags, -1, 0);  // mmap gives nothing for nothing
  if (*to == MAP_FAILED) return last_error = cudaErrorMemoryAllocation;
  device_memory[static_cast<char*>(*to)] = bytes;
  record("allocation", bytes, __func__);
  return cudaSuccess;
}
CUDA cudaError_t cudaFree(void* block) {
  if (auto error = outside_capture(__func__)) return error;
  std::lock_guard<std::mutex> hold(guard);
  auto found = device_memory.find(static_cast<char*>(block));
  if (found == device_memory.end()) return block ? last_error = cudaErrorInvalidValue : cudaSuccess;
  munmap(block, found->second + 1);
  device_memory.erase(found);
  return cudaSuccess;
}
CUDA cudaError_t cudaHostAlloc(void** to, size_t bytes, unsigned) {
  if (auto error = outside_capture(__func__)) return error;
  *to = std::aligned_alloc(256, (bytes / 256 + 1) * 256);
  return *to ? cudaSuccess : last_error = cudaErrorMemoryAllocation;
}
CUDA cudaError_t cudaMallocHost(void** to, size_t bytes) { return cudaHostAlloc(to, bytes, 0); }
CUDA cudaError_t cudaFreeHost(void* block) {
  if (auto error = outside_capture(__func__)) return error;
  std::free(block);
  return cudaSuccess;
}
CUDA cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = *total = all_memory();
  return cudaSuccess;
}

// Copies

CUDA cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return copy(__func__, to, bytes, from, bytes, bytes, 1, kind);
}
CUDA cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                 cudaStream_t stream) {
  return copy(__func__, to, bytes, from, bytes, bytes, 1, kind, stream);
}
CUDA cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind) {
  return copy(__func__, to, to_pitch, from, from_pitch, width, height, kind);
}
CUDA cudaError_t cudaMemcpyFromSymbol(void* to, const void* variable, size_t bytes, size_t,
                                      cudaMemcpyKind) {
  if (auto error = outside_capture(__func__)) return error;
  record("from the device", bytes, __func__);
  device::submit(device::value(to, demangled(variables[variable].c_str()), bytes));
  return cudaSuccess;
}
CUDA cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return fill(__func__, to, value, bytes, nullptr);
}
CUDA cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return fill(__func__, to, value, bytes, stream);
}

// Launches: what nvcc makes of a kernel registers its name when the provider is loaded, and leaves
// the sizes of a <<<launch>>> with CUDA until it has the arguments.

static thread_local struct {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
} configuration;

CUDA void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
CUDA void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, uint3*,
                                 uint3*, dim3*, dim3*, int*) {
  kernels[function] = name;
}
CUDA void __cudaRegisterVar(void**, char* variable, char*, const char* name, int, size_t, int,
                            int) {
  variables[variable] = name;
}
CUDA unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared,
                                          cudaStream_t stream) {
  configuration = {grid, block, shared, stream};
  return 0;
}
CUDA cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared,
                                            cudaStream_t* stream) {
  *grid = configuration.grid, *block = configuration.block;
  *shared = configuration.shared, *stream = configuration.stream;
  return cudaSuccess;
}
CUDA cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
CUDA cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                                    size_t shared, cudaStream_t stream) {
  return launch(kernel, grid, block, arguments, shared, stream);
}
CUDA cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                                  size_t shared, cudaStream_t stream) {
  return launch(function, grid, block, arguments, shared, stream);
}
CUDA cudaError_t cudaLaunchCooperativeKernel(const void* function, dim3 grid, dim3 block,
                                             void** arguments, size_t shared,
                                             cudaStream_t stream) {
  return launch(function, grid, block, arguments, shared, stream);
}
CUDA cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* is, const void* function,
                                     void** arguments) {
  return launch(function, is->gridDim, is->blockDim, arguments, is->dynamicSmemBytes, is->stream);
}
CUDA cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*,
                                                                        int, size_t, unsigned) {
  *blocks = 2;  // what a kernel's registers would leave room for, nobody knows here
  return cudaSuccess;
}

// Streams, events and graphs

CUDA cudaError_t cudaStreamSynchronize(cudaStream_t) { return wait(__func__); }
CUDA cudaError_t cudaDeviceSynchronize() { return wait(__func__); }
CUDA cudaError_t cudaEventSynchronize(cudaEvent_t) { return wait(__func__); }
CUDA cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1;  // where the provider tries several kernels, the first that runs is best
  return cudaSuccess;
}
CUDA cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (auto error = outside_capture(__func__)) return error;
  captured = stream;
  return cudaSuccess;
}
CUDA cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  captured = nullptr;
  *graph = reinterpret_cast<cudaGraph_t>(new Graph(std::exchange(capture, {})));
  return cudaSuccess;
}
CUDA cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const bool is = captured && stream == captured;
  *status = is ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
CUDA cudaError_t cudaGraphInstantiate(cudaGraphExec_t* graph, cudaGraph_t captured,
                                      unsigned long long) {
  *graph = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(captured)));
  return cudaSuccess;
}
CUDA cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Graph*>(graph);
  return cudaSuccess;
}
CUDA cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete reinterpret_cast<Graph*>(graph);
  return cudaSuccess;
}
CUDA cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  record("graph", 0, __func__);
  for (const auto& work : *reinterpret_cast<Graph*>(graph)) work();
  return cudaSuccess;
}

// The device, the driver, and what went wrong

CUDA cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
CUDA cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
CUDA cudaError_t cudaSetDevice(int device) { return device ? cudaErrorInvalidDevice : cudaSuccess; }
CUDA cudaError_t cudaDriverGetVersion(int* is) { return *is = CUDART_VERSION, cudaSuccess; }
CUDA cudaError_t cudaGetDeviceProperties(cudaDeviceProp* of, int) {
  *of = {};
  std::strcpy(of->name, "stand-in for an H200");
  of->major = 9, of->minor = 0, of->multiProcessorCount = 132, of->warpSize = 32;
  of->totalGlobalMem = all_memory(), of->l2CacheSize = 60 << 20, of->memoryBusWidth = 6144;
  of->sharedMemPerBlock = 49152, of->sharedMemPerBlockOptin = 232448;
  of->sharedMemPerMultiprocessor = 233472, of->reservedSharedMemPerBlock = 1024;
  of->regsPerBlock = of->regsPerMultiprocessor = 65536;
  of->maxThreadsPerBlock = 1024, of->maxThreadsPerMultiProcessor = 2048;
  of->maxBlocksPerMultiProcessor = 32, of->asyncEngineCount = 3;
  of->maxThreadsDim[0] = of->maxThreadsDim[1] = 1024, of->maxThreadsDim[2] = 64;
  of->maxGridSize[0] = 2147483647, of->maxGridSize[1] = of->maxGridSize[2] = 65535;
  of->memPitch = 2147483647, of->textureAlignment = 512;
  of->unifiedAddressing = of->concurrentKernels = of->cooperativeLaunch = 1;
  of->memoryPoolsSupported = of->clusterLaunch = 1;
  return cudaSuccess;
}
CUDA cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp of;
  cudaGetDeviceProperties(&of, device);
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = of.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = of.minor; break;
    case cudaDevAttrMultiProcessorCount: *value = of.multiProcessorCount; break;
    case cudaDevAttrWarpSize: *value = of.warpSize; break;
    case cudaDevAttrL2CacheSize: *value = of.l2CacheSize; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = of.maxThreadsPerBlock; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = of.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = of.sharedMemPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = of.sharedMemPerBlockOptin; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = of.sharedMemPerMultiprocessor; break;
    case cudaDevAttrMemoryPoolsSupported: *value = of.memoryPoolsSupported; break;
    case cudaDevAttrCooperativeLaunch: *value = of.cooperativeLaunch; break;
    default:
      return static_cast<cudaError_t>(
          cuda_stand_in_lacks(("the device's attribute " + std::to_string(attribute)).c_str()));
  }
  return cudaSuccess;
}
CUDA cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
CUDA cudaError_t cudaPeekAtLastError() { return last_error; }
CUDA const char* cudaGetErrorName(cudaError_t) { return "refused by the stand-in for CUDA"; }
CUDA const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
CUDA int cuInit(unsigned) { return 0; }
CUDA int cuDriverGetVersion(int* version) { return cudaDriverGetVersion(version); }
CUDA int cuGetErrorString(int error, const char** text) {
  *text = cudaGetErrorString(static_cast<cudaError_t>(error));
  return 0;
}

// cuBLAS: products are build.py's, as far as on_host/products.cpp doesn't have them.

CUDA int cublasGetMathMode(void*, int* mode) { return *mode = 0; }
CUDA const char* cublasGetStatusName(int) { return cudaGetErrorName(cudaErrorUnknown); }
CUDA const char* cublasGetStatusString(int) { return cudaGetErrorName(cudaErrorUnknown); }
