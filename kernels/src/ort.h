// ONNX Runtime's operators, kernels and tensors, in C++: an error is a `Failure` here and a status
// there, and no exception crosses the border.
#pragma once

#include <algorithm>
#include <atomic>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "ort_abi.h"

namespace gpt2onnx {

using abi::Element;

// What is wrong with a graph or with what it was fed.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void fail(const std::string& message);

// A tensor's lengths, few enough to be held without memory of their own.
class Shape {
 public:
  static constexpr size_t MOST = 8;
  Shape() = default;
  Shape(std::initializer_list<int64_t> lengths) {
    for (int64_t length : lengths) lengths_[count_++] = length;
  }

  void resize(size_t count) { count_ = count; }
  size_t size() const { return count_; }
  int64_t* data() { return lengths_; }
  const int64_t* data() const { return lengths_; }
  const int64_t* begin() const { return lengths_; }
  const int64_t* end() const { return lengths_ + count_; }
  int64_t operator[](size_t at) const { return lengths_[at]; }
  bool operator==(const Shape& other) const {
    return std::equal(begin(), end(), other.begin(), other.end());
  }
  bool operator!=(const Shape& other) const { return !(*this == other); }

 private:
  int64_t lengths_[MOST] = {};
  size_t count_ = 0;
};

std::string text_of(const Shape& shape);  // as in [2, 3]

// ONNX Runtime's functions, set when the library is registered.
const abi::Api& ort();

// A tensor's memory, type and shape. Valid as long as ONNX Runtime holds the value.
struct Tensor {
  Element type;
  Shape shape;
  void* data;

  int64_t size() const;
  template <class T>
  const T* as() const { return static_cast<const T*>(data); }
};

// What a session's options say to its operators: their configuration entries of these names, each
// with "gpt2onnx." in front. Empty where there is none.
struct Options {
  std::string packed;   // the folder with the packed weights to map
  std::string pack_to;  // the folder to save packed weights in

  bool operator<(const Options& other) const {
    return std::tie(packed, pack_to) < std::tie(other.packed, other.pack_to);
  }
};

// A node when its kernel is made: attributes, constant inputs, and the session's options.
class Node {
 public:
  Node(const abi::KernelInfo* info, const Options& options) : info_(info), options_(options) {}
  const Options& options() const { return options_; }
  std::string name() const;
  int64_t integer(const char* attribute, int64_t otherwise) const;
  float number(const char* attribute, float otherwise) const;
  std::string word(const char* attribute, const char* otherwise) const;
  std::optional<Tensor> constant(size_t input) const;  // none where it is absent or no constant

 private:
  const abi::KernelInfo* info_;
  const Options& options_;
};

// A run of a node.
class Run {
 public:
  explicit Run(abi::KernelContext* context) : context_(context) {}
  std::optional<Tensor> input(size_t index) const;  // none where an optional one is absent
  Tensor required(size_t index, const char* name) const;
  // Null where the node has no such optional output.
  template <class T = float>
  T* output(size_t index, const Shape& shape) const {
    return static_cast<T*>(memory(index, shape));
  }

  // Calls task(0) ... task(count - 1) on ONNX Runtime's threads, and waits. What they throw is
  // thrown here.
  template <class Task>
  void parallel(size_t count, const Task& task) const {
    struct Shared {
      const Task& task;
      std::atomic<bool> failed{false};
    } shared{task};
    auto call = [](void* data, size_t index) {
      auto* mine = static_cast<Shared*>(data);
      try {
        mine->task(index);
      } catch (...) {  // nothing but want of memory is thrown in a task
        mine->failed = true;
      }
    };
    if (count == 1) call(&shared, 0);
    else if (count > 1) start(call, count, &shared);
    if (shared.failed) fail("out of memory");
  }

 private:
  void* memory(size_t output, const Shape& shape) const;
  void start(void (*call)(void*, size_t), size_t count, void* data) const;
  abi::KernelContext* context_;
};

// An input that a graph mostly has as a constant, which is looked up once.
class Input {
 public:
  Input(const Node& node, size_t index) : index_(index), constant_(node.constant(index)) {}
  // None where an optional one is absent.
  std::optional<Tensor> of(const Run& run) const {
    return constant_ ? constant_ : run.input(index_);
  }

 private:
  size_t index_;
  std::optional<Tensor> constant_;
};

// Memory of the calling thread's that grows and is used again; aligned to cache lines. `of` gives
// the buffer of that number, whose content is anything.
class Scratch {
 public:
  static void* of(size_t number, size_t bytes);
  template <class T>
  static T* of(size_t number, size_t count) {
    return static_cast<T*>(of(number, count * sizeof(T)));
  }
};

// Bytes aligned to cache lines, for packed weights.
struct Aligned {
  explicit Aligned(size_t bytes);
  template <class T>
  T* as() const { return reinterpret_cast<T*>(data.get()); }
  struct Release { void operator()(uint8_t* memory) const; };
  std::unique_ptr<uint8_t, Release> data;
};

// What an operator says of an input or output: its type, or `undefined` for any, and whether it may
// be absent.
struct Argument {
  Element type;
  bool optional;

  abi::Presence presence() const {
    return optional ? abi::Presence::optional : abi::Presence::required;
  }
};

// The status of a call, with whatever was thrown as its message.
template <class Call>
abi::Status* guarded(const Call& call) {
  try {
    call();
    return nullptr;
  } catch (const Failure& failure) {
    return ort().create_status(abi::ErrorCode::invalid_argument, failure.what());
  } catch (const std::exception& error) {
    return ort().create_status(abi::ErrorCode::fail, error.what());
  } catch (...) {
    return ort().create_status(abi::ErrorCode::fail, "unknown error");
  }
}

// An operator as ONNX Runtime takes it, for the sessions that have these options.
struct Operator : abi::CustomOp {
  const Options* options;
};

// The operator of a class with NAME, INPUTS, OUTPUTS, a constructor of a Node and
// `void run(const Run&) const`.
template <class Kernel>
Operator operator_of(const Options& options) {
  Operator made{};
  made.options = &options;
  made.version = abi::VERSION;
  made.get_name = [](const abi::CustomOp*) { return Kernel::NAME; };
  made.get_execution_provider = [](const abi::CustomOp*) -> const char* { return nullptr; };
  made.get_input_count = [](const abi::CustomOp*) { return std::size(Kernel::INPUTS); };
  made.get_input_type = [](const abi::CustomOp*, size_t index) {
    return Kernel::INPUTS[index].type;
  };
  made.get_input_presence = [](const abi::CustomOp*, size_t index) {
    return Kernel::INPUTS[index].presence();
  };
  made.get_output_count = [](const abi::CustomOp*) { return std::size(Kernel::OUTPUTS); };
  made.get_output_type = [](const abi::CustomOp*, size_t index) {
    return Kernel::OUTPUTS[index].type;
  };
  made.get_output_presence = [](const abi::CustomOp*, size_t index) {
    return Kernel::OUTPUTS[index].presence();
  };
  made.get_input_memory = [](const abi::CustomOp*, size_t) -> int32_t { return 0; };
  made.get_variadic_input_arity = [](const abi::CustomOp*) { return 0; };
  made.get_variadic_input_homogeneity = [](const abi::CustomOp*) { return 0; };
  made.get_variadic_output_arity = [](const abi::CustomOp*) { return 0; };
  made.get_variadic_output_homogeneity = [](const abi::CustomOp*) { return 0; };
  made.create_kernel_checked = [](const abi::CustomOp* op, const abi::Table*,
                                  const abi::KernelInfo* info, void** kernel) {
    return guarded([&] {
      Node node(info, *static_cast<const Operator*>(op)->options);
      try {
        *kernel = new Kernel(node);
      } catch (const Failure& failure) {
        fail(std::string(Kernel::NAME) + " " + node.name() + ": " + failure.what());
      }
    });
  };
  made.compute_checked = [](void* kernel, abi::KernelContext* context) {
    return guarded([&] {
      try {
        static_cast<const Kernel*>(kernel)->run(Run(context));
      } catch (const Failure& failure) {
        fail(std::string(Kernel::NAME) + ": " + failure.what());
      }
    });
  };
  made.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  made.get_start_version = [](const abi::CustomOp*) { return 1; };
  made.get_end_version = [](const abi::CustomOp*) { return 1; };
  return made;
}

}  // namespace gpt2onnx
