// ONNX Runtime's C ABI, as far as this library uses it.
//
// No package brings ONNX Runtime's own header. Its ABI is append-only: a function stands at the same
// place of the table for ever, and a table of version n holds every function up to n. So the places
// of the functions used here are named below, and `Api::take` checks that the table has them.
// https://onnxruntime.ai/docs/api/c/struct_ort_api.html
#pragma once

#include <cstddef>
#include <cstdint>

namespace gpt2onnx::abi {

// Opaque to everyone but ONNX Runtime.
struct Status;
struct Value;
struct KernelInfo;
struct KernelContext;
struct SessionOptions;
struct CustomOpDomain;
struct TensorInfo;

enum class Element : int32_t {
  undefined = 0,
  float32 = 1,
  uint8 = 2,
  int8 = 3,
  int32 = 6,
  int64 = 7,
  boolean = 9,
  float16 = 10,
};

enum class ErrorCode : int32_t { fail = 1, invalid_argument = 2 };
enum class Presence : int32_t { required = 0, optional = 1 };

// The table's version that has all of the functions below; ONNX Runtime 1.17 was the first.
constexpr uint32_t VERSION = 17;

struct Table;  // an array of functions

struct ApiBase {
  const Table* (*get_api)(uint32_t version);
  const char* (*get_version_string)();
};

// What an operator is to ONNX Runtime: a table of functions, up to those of VERSION.
struct CustomOp {
  uint32_t version;
  void* (*create_kernel)(const CustomOp*, const Table*, const KernelInfo*);
  const char* (*get_name)(const CustomOp*);
  const char* (*get_execution_provider)(const CustomOp*);
  Element (*get_input_type)(const CustomOp*, size_t);
  size_t (*get_input_count)(const CustomOp*);
  Element (*get_output_type)(const CustomOp*, size_t);
  size_t (*get_output_count)(const CustomOp*);
  void (*compute)(void* kernel, KernelContext*);
  void (*destroy)(void* kernel);
  Presence (*get_input_presence)(const CustomOp*, size_t);
  Presence (*get_output_presence)(const CustomOp*, size_t);
  int32_t (*get_input_memory)(const CustomOp*, size_t);
  int (*get_variadic_input_arity)(const CustomOp*);
  int (*get_variadic_input_homogeneity)(const CustomOp*);
  int (*get_variadic_output_arity)(const CustomOp*);
  int (*get_variadic_output_homogeneity)(const CustomOp*);
  Status* (*create_kernel_checked)(const CustomOp*, const Table*, const KernelInfo*, void** kernel);
  Status* (*compute_checked)(void* kernel, KernelContext*);
  Status* (*infer_shape)(const CustomOp*, void* context);
  int (*get_start_version)(const CustomOp*);
  int (*get_end_version)(const CustomOp*);
  // From version 18 on; ONNX Runtime doesn't read them of an operator of VERSION.
  size_t (*get_may_inplace)(int**, int**);
  void (*release_may_inplace)(int*, int*);
  size_t (*get_alias_map)(int**, int**);
  void (*release_alias_map)(int*, int*);
};

// The functions used, each with its place in the table.
struct Api {
#define GPT2ONNX_ORT_FUNCTIONS(each)                                                              \
  each(0, Status*, create_status, (ErrorCode, const char*))                                       \
  each(2, const char*, get_error_message, (const Status*))                                        \
  each(26, Status*, create_custom_op_domain, (const char*, CustomOpDomain**))                     \
  each(27, Status*, add_to_domain, (CustomOpDomain*, const CustomOp*))                            \
  each(28, Status*, add_domain, (SessionOptions*, CustomOpDomain*))                               \
  each(51, Status*, get_tensor_data, (Value*, void**))                                            \
  each(60, Status*, get_element_type, (const TensorInfo*, Element*))                              \
  each(61, Status*, get_dimensions_count, (const TensorInfo*, size_t*))                           \
  each(62, Status*, get_dimensions, (const TensorInfo*, int64_t*, size_t))                        \
  each(65, Status*, get_tensor_info, (const Value*, TensorInfo**))                                \
  each(85, Status*, get_float, (const KernelInfo*, const char*, float*))                          \
  each(86, Status*, get_int, (const KernelInfo*, const char*, int64_t*))                          \
  each(87, Status*, get_string, (const KernelInfo*, const char*, char*, size_t*))                 \
  each(88, Status*, get_input_count, (const KernelContext*, size_t*))                             \
  each(90, Status*, get_input, (const KernelContext*, size_t, const Value**))                     \
  each(91, Status*, get_output, (KernelContext*, size_t, const int64_t*, size_t, Value**))        \
  each(93, void, release_status, (Status*))                                                       \
  each(99, void, release_tensor_info, (TensorInfo*))                                              \
  each(101, void, release_domain, (CustomOpDomain*))                                              \
  each(230, Status*, get_node_input_count, (const KernelInfo*, size_t*))                          \
  each(238, Status*, get_session_config_entry,                                                    \
       (const SessionOptions*, const char*, char*, size_t*))                                      \
  each(244, Status*, get_node_name, (const KernelInfo*, char*, size_t*))                          \
  each(249, Status*, get_constant_input, (const KernelInfo*, size_t, int*, const Value**))        \
  each(274, Status*, parallel_for,                                                                \
       (const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*))

#define GPT2ONNX_DECLARE(place, result, name, arguments) result(*name) arguments;
  GPT2ONNX_ORT_FUNCTIONS(GPT2ONNX_DECLARE)
#undef GPT2ONNX_DECLARE

  // Reads the functions off a table of at least VERSION; false where one is missing.
  bool take(const Table* table) {
    if (table == nullptr) return false;
    auto functions = reinterpret_cast<void* const*>(table);
    bool whole = true;
#define GPT2ONNX_TAKE(place, result, name, arguments)                 \
  name = reinterpret_cast<result(*) arguments>(functions[place]);     \
  whole = whole && name != nullptr;
    GPT2ONNX_ORT_FUNCTIONS(GPT2ONNX_TAKE)
#undef GPT2ONNX_TAKE
    return whole;
  }
};

}  // namespace gpt2onnx::abi
