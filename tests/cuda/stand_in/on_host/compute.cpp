// A device that computes, on the host: what graphs that are made for CUDA launch. Its memory is the
// host's, and each work is over before the next begins.
//
// A kernel is known by all of its signature, in ONNX Runtime's words: one whose parameters changed
// is another, and one that isn't here is an exception, which ONNX Runtime passes on. Loops run over
// what a grid's blocks and threads would, in any order; sums are in float, as there.

#include <sys/mman.h>

#include <cctype>
#include <cstring>
#include <stdexcept>
#include <string>
#include <tuple>

#include "../device.h"
#include "attention.h"
#include "elements.h"
#include "grouped_query_attention.h"
#include "moving.h"
#include "parameters.h"
#include "quantized.h"
#include "rows.h"

namespace {

using namespace host;

template <typename... Types>
device::Work prepared(void (*kernel)(Grid, Types...), Grid grid, void** arguments) {
  size_t number = 0;  // in braces one is read after the other
  const auto next = [&](auto* type) { return *static_cast<decltype(type)>(arguments[number++]); };
  std::tuple<Grid, Types...> values{grid, next(static_cast<Types*>(nullptr))...};
  return [=] { std::apply(kernel, values); };
}

template <auto kernel>
device::Work prepare(Grid grid, void** arguments) {
  return prepared(kernel, grid, arguments);
}

struct Kernel {
  const char* signature;  // # stands for a number
  device::Work (*prepare)(Grid, void**);
};

const Kernel kernels[] = {
    {"_GatherKernel<int>(long, long, DivMod<int>, DivMod<int>, void const*, unsigned long, "
     "int const*, int*, int)",
     prepare<gather<int>>},
    {"_GatherKernel<long>(long, long, DivMod<int>, DivMod<int>, void const*, unsigned long, "
     "long const*, long*, int)",
     prepare<gather<long>>},
    {"_GatherKernel<short>(long, long, DivMod<int>, DivMod<int>, void const*, unsigned long, "
     "short const*, short*, int)",
     prepare<gather<short>>},
    {"_SliceKernel<false, 2, short>(TArray<long, 8>, TArray<long, 8>, TArray<long, 8>, "
     "TArray<DivMod<int>, 8>, short const*, short*, int)",
     prepare<slice_rows<short>>},
    {"_UnaryElementWise<__half, float, OP_Cast<__half, float>, #, #>(__half const*, float*, "
     "OP_Cast<__half, float>, long)",
     prepare<cast<float, half>>},
    {"_BinaryElementWiseSimple<true, true, __half, __half, __half, OP_Add<__half, __half, "
     "__half>, #, #, int>(__half const*, __half const*, __half*, OP_Add<__half, __half, __half>, "
     "int)",
     prepare<add<half, true, true>>},
    {"BroadcastBiasKernel<__half, int, false>(__half const*, __half*, long, DivMod<int>, int, "
     "int, __half)",
     prepare<broadcast_bias<half>>},
    {"FastGeluKernel2<#u>(__half2, __half2, __half2, int, int, __half2 const*, __half2 const*, "
     "__half2*)",
     prepare<fast_gelu_of_pairs>},
    {"cuApplyLayerNorm<__half, float, __half, false>(__half*, float*, float*, __half const*, int, "
     "int, float, __half const*, __half const*, int, __half const*, __half const*, __half*)",
     prepare<layer_norm<half>>},
    {"SkipLayerNormKernelSmall<__half, #u, #, false>(__half*, __half*, __half const*, __half "
     "const*, __half const*, __half const*, __half const*, float, int, int)",
     prepare<skip_layer_norm<half>>},
    {"GetSequenceLengths(int const*, int*, int*, int*, int*, int*, int*, int, int, bool, int, "
     "int, int)",
     prepare<sequence_lengths>},
    {"UnpackRoPEAppend<__half, __half, 16, 64>(__half const*, __half const*, __half const*, "
     "__half const*, __half*, __half*, __half*, float const*, float const*, float const*, int, "
     "int, int, int, int, int, int const*, int const*, __half const*, __half const*, int, long "
     "const*, bool, bool, bool, __half const*, __half const*, float)",
     prepare<unpack_and_append>},
    {"flash::flash_fwd_kernel<flash::Flash_fwd_kernel_traits<64, #, #, #, false, false, "
     "cutlass::half_t, flash::Flash_kernel_traits<64, #, #, #, cutlass::half_t> >, true, false, "
     "false, false, true, false, false>(flash::Flash_fwd_params)",
     prepare<flash_attention_at_once>},
    {"flash::flash_fwd_splitkv_kernel<flash::Flash_fwd_kernel_traits<64, #, #, #, false, false, "
     "cutlass::half_t, flash::Flash_kernel_traits<64, #, #, #, cutlass::half_t> >, true, "
     "false, false, false, true, false, true, false>(flash::Flash_fwd_params)",
     prepare<flash_attention_in_parts>},
    {"flash::flash_fwd_splitkv_combine_kernel<flash::Flash_fwd_kernel_traits<64, #, #, #, false, "
     "false, cutlass::half_t, flash::Flash_kernel_traits<64, #, #, #, cutlass::half_t> >, #, #, "
     "true>(flash::Flash_fwd_params)",
     prepare<combine_flash_attention>},
    {"H64::grp1_fp16::kernel_mha(unsigned int, unsigned int, float, Vec<__half, 64u>*, "
     "Vec<__half, 64u> const*, float const*, KVCacheList<false>, unsigned int, float const*, "
     "float const*, unsigned int*, void*)",
     prepare<attention_of_a_token>},
    {"GatherBlockQuantizedKernel<unsigned char, __half, long>(unsigned char const*, long const*, "
     "__half const*, unsigned char const*, __half*, long, long, long, long, long, long, long, bool)",
     prepare<gather_quantized>},
    {"MatMulFloat8bKernelM1<__half, 32, false>(__half*, __half const*, unsigned char const*, "
     "__half const*, unsigned char const*, int, int, int)",
     prepare<multiply_quantized_by_a_row<8, 32>>},
    {"MatMulFloat8bKernelBatched<__half, 32, false, #, #>(__half*, __half const*, unsigned char "
     "const*, __half const*, unsigned char const*, int, int, int, int)",
     prepare<multiply_quantized<8, 32>>},
    {"MatMulFloat4BitsKernelM1<__half, 32, false>(__half*, __half const*, unsigned char const*, "
     "__half const*, unsigned char const*, int, int, int, int)",
     prepare<multiply_quantized<4, 32>>},
    {"MatMulFloat4BatchedKernel<__half, 32, false, #, #>(__half*, __half const*, unsigned char "
     "const*, __half const*, unsigned char const*, int, int, int, int)",
     prepare<multiply_quantized<4, 32>>},
    {"Dequantize8BitsKernel<__half, unsigned char>(__half*, unsigned char const*, __half const*, "
     "unsigned char const*, int, int, int)",
     prepare<dequantize_8_bits>},
    {"Dequantize4BitsKernel<__half, unsigned char>(__half*, unsigned char const*, __half const*, "
     "unsigned char const*, int, int, int, int)",
     prepare<dequantize_4_bits>},
    {"MatMulNBitsBiasAddKernel<__half>(__half*, __half const*, int, long)", prepare<add_bias>},
    {"_GatherScatterElementsKernel<float, long, true, OffsetCalculator<false>, "
     "FuncAssignment<float> >(float const*, long const*, float*, long, long, "
     "OffsetCalculator<false>, FuncAssignment<float>, int)",
     prepare<gather_elements<Offsets>>},
    {"_GatherScatterElementsKernel<float, long, true, OffsetCalculatorFor2D<false, false>, "
     "FuncAssignment<float> >(float const*, long const*, float*, long, long, "
     "OffsetCalculatorFor2D<false, false>, FuncAssignment<float>, int)",
     prepare<gather_elements<OffsetsOfRows>>},
    {"_SliceKernel<false, 2, int>(TArray<long, 8>, TArray<long, 8>, TArray<long, 8>, "
     "TArray<DivMod<int>, 8>, int const*, int*, int)",
     prepare<slice_rows<int>>},
    {"_SplitKernelSameSplitDim<int, TArray<void*, 32> >(DivMod<int>, DivMod<int>, DivMod<int>, "
     "int, int const*, TArray<void*, 32>, int)",
     prepare<split>},
    {"Transpose4DKernelParallelizeMultipleElementsPerThreadInInnermostDim<4>(TArray<long, 8>, "
     "void const*, TArray<long, 8>, void*, long, int)",
     prepare<transpose_4d>},
    {"TransposeCtx<float2>(int, bool, float2 const*, float2*)", prepare<transpose_context<float2>>},
    {"TransposeQKV<float2>(int, bool, float2 const*, float2*, int)",
     prepare<transpose_qkv<float2>>},
    {"_TensorScatterKernel<int, false>(int*, int const*, long const*, long, long, long, long, "
     "long, unsigned long)",
     prepare<tensor_scatter>},
    {"_UnaryElementWise<int, long, OP_Cast<int, long>, #, #>(int const*, long*, "
     "OP_Cast<int, long>, long)",
     prepare<cast<long, int>>},
    {"_BinaryElementWiseSimple<true, true, float, float, float, OP_Add<float, float, float>, #, "
     "#, int>(float const*, float const*, float*, OP_Add<float, float, float>, int)",
     prepare<add<float, true, true>>},
    {"_BinaryElementWiseSimple<true, false, long, long, long, OP_Add<long, long, long>, #, #, "
     "int>(long const*, long const*, long*, OP_Add<long, long, long>, int)",
     prepare<add<long, true, false>>},
    {"_BinaryElementWiseSimple<false, true, long, long, long, OP_Add<long, long, long>, #, #, "
     "int>(long const*, long const*, long*, OP_Add<long, long, long>, int)",
     prepare<add<long, false, true>>},
    {"BroadcastBiasKernel<float, int, false>(float const*, float*, long, DivMod<int>, int, int, "
     "float)",
     prepare<broadcast_bias<float>>},
    {"FastGeluKernel<float, #u>(float, float, float, int, int, float const*, float const*, "
     "float*)",
     prepare<fast_gelu<float, float>>},
    {"cuApplyLayerNorm<float, float, float, false>(float*, float*, float*, float const*, int, "
     "int, float, float const*, float const*, int, float const*, float const*, float*)",
     prepare<layer_norm<float>>},
    {"SkipLayerNormKernelSmall<float, #u, #, false>(float*, float*, float const*, float const*, "
     "float const*, float const*, float const*, float, int, int)",
     prepare<skip_layer_norm<float>>},
    {"softmax_warp_forward<float, float, float, #, true>(float*, float const*, int, int, int)",
     prepare<log_softmax_of_small>},
    {"softmax_block_forward<#, float, float, float, LogSoftMaxForwardEpilogue>(float*, float*, "
     "int, int, int)",
     prepare<log_softmax_of_large>},
    {"RadixTopK<float, #l, #l>(float const*, float*, long*, TArray<long, 8>, unsigned long, int, "
     "long, long, long, long, long, float, float)",
     prepare<top_k>},
    {"hybrid_topk::FindPartitionTopK<float, 3328, 64>(float const*, float*, int*, int, int)",
     prepare<top_k_of_parts<3328, 64>>},
    {"hybrid_topk::CooperativeReduce<64, #, 16, 1, 1>(int*, float*, int*, float*, int)",
     prepare<top_k_of_all_parts<64>>},
    {"hybrid_topk::WriteOutput<float>(float const*, int const*, float*, long*, int, int, int, "
     "int)",
     prepare<write_top_k>},
    {"ConvertNonpadKvSeqlenToFlashSeqlensKKernel(long const*, int*, int, int)", prepare<lengths>},
    {"attention_kernel_batched_impl_right_padding<AttentionKernel<float, cutlass::arch::Sm80, "
     "true, #, #, #, false, true, DefaultToBatchHook>, #>(AttentionKernel<float, "
     "cutlass::arch::Sm80, true, #, #, #, false, true, DefaultToBatchHook>::Params)",
     prepare<attention>},
    {"ZeroOutputForFullyMaskedBatchesKernel<float>(float*, int const*, int, long)",
     prepare<zero_empty_rows>},
    {"ZeroFullyMaskedRowsKernel<float>(float*, float const*, int const*, int, int, int, int, "
     "int, bool, bool, int, int, float)",
     prepare<zero_masked_queries>},
};

// A signature without what it returns and without ONNX Runtime's namespaces.
std::string shortened(std::string name) {
  for (const char* part : {"void ", "onnxruntime::", "contrib::", "cuda::",
                           "(anonymous namespace)::"}) {
    const size_t size = std::strlen(part);
    const bool leads = !std::strcmp(part, "void ");  // it is a parameter's as well
    for (size_t at; (at = name.find(part)) != std::string::npos && (!leads || !at);)
      name.erase(at, size);
  }
  return name;
}

bool matches(const char* pattern, const char* name) {
  for (; *pattern && *name; ++pattern) {
    const bool number = *pattern == '#' && std::isdigit(*name);
    if (!number && *pattern != *name) return false;
    do ++name;
    while (number && std::isdigit(*name));
  }
  return *pattern == *name;
}

}  // namespace

namespace device {

const int access = PROT_READ | PROT_WRITE;

Work copy(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
          size_t height, cudaMemcpyKind) {
  return [=] {
    for (size_t row = 0; row < height; ++row)
      std::memmove(static_cast<char*>(to) + row * to_pitch,
                   static_cast<const char*>(from) + row * from_pitch, width);
  };
}

Work fill(void* to, int value, size_t bytes) {
  return [=] { std::memset(to, value, bytes); };
}

// How much memory a kernel's blocks share is all that is asked so, and that needs none here.
Work value(void* to, const std::string& variable, size_t bytes) {
  const std::string end = "::smemSize";
  expect(variable.size() > end.size() &&
             !variable.compare(variable.size() - end.size(), end.size(), end),
         "kernels that ask for no other variable");
  return [=] { std::memset(to, 0, bytes); };
}

Work kernel(const std::string& name, dim3 grid, dim3 block, void** arguments) {
  const std::string is = shortened(name);
  for (const Kernel& known : kernels)
    if (matches(known.signature, is.c_str())) return known.prepare({grid, block}, arguments);
  throw std::runtime_error("the stand-in for CUDA doesn't compute " + is);
}

}  // namespace device
