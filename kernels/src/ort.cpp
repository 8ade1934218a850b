#include "ort.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#include "attention.h"
#include "embed.h"
#include "linear.h"
#include "top_logits.h"

namespace gpt2onnx {
namespace {

constexpr const char* DOMAIN_NAME = "gpt2onnx";
constexpr size_t LINE = 64, HUGE_PAGE = 2 << 20;  // bytes

abi::Api api;

// Throws a status of ONNX Runtime's as a Failure.
void check(abi::Status* status) {
  if (status == nullptr) return;
  std::string message = api.get_error_message(status);
  api.release_status(status);
  fail(message);
}

// Whether a call came off; where not, its status is thrown away.
bool came(abi::Status* status) {
  if (status != nullptr) api.release_status(status);
  return status == nullptr;
}

// A session's configuration entry, or nothing.
std::string entry(const abi::SessionOptions* options, const char* key) {
  size_t size = 0;
  if (!came(api.get_session_config_entry(options, key, nullptr, &size)) || size == 0) return "";
  std::string text(size, '\0');
  check(api.get_session_config_entry(options, key, text.data(), &size));
  text.resize(size - 1);
  return text;
}

// The operators for the sessions that have the same options.
struct Domain {
  explicit Domain(const Options& options) : linear(operator_of<Linear>(options)),
        attention(operator_of<Attention>(options)), embed(operator_of<Embed>(options)),
        top_logits(operator_of<TopLogits>(options)) {
    check(api.create_custom_op_domain(DOMAIN_NAME, &made));
    for (const Operator* op : {&linear, &attention, &embed, &top_logits})
      check(api.add_to_domain(made, op));
  }

  Operator linear, attention, embed, top_logits;
  abi::CustomOpDomain* made = nullptr;
};

// ONNX Runtime holds a domain for as long as a session does, and never gives it back: they stay.
abi::CustomOpDomain* domain_of(const Options& options) {
  static std::mutex one_at_a_time;
  static auto& all = *new std::map<Options, std::unique_ptr<Domain>>;
  std::lock_guard<std::mutex> turn(one_at_a_time);
  auto place = all.try_emplace(options).first;
  if (!place->second) place->second = std::make_unique<Domain>(place->first);
  return place->second->made;
}

Tensor tensor(const abi::Value* value) {
  Tensor result{};
  abi::TensorInfo* info = nullptr;
  check(api.get_tensor_info(value, &info));
  std::unique_ptr<abi::TensorInfo, void (*)(abi::TensorInfo*)> held(info, api.release_tensor_info);
  check(api.get_element_type(info, &result.type));
  size_t count = 0;
  check(api.get_dimensions_count(info, &count));
  if (count > Shape::MOST) fail("a tensor has " + std::to_string(count) + " dimensions, expected " +
                                std::to_string(Shape::MOST) + " at most");
  result.shape.resize(count);
  check(api.get_dimensions(info, result.shape.data(), count));
  check(api.get_tensor_data(const_cast<abi::Value*>(value), &result.data));
  return result;
}

}  // namespace

void fail(const std::string& message) { throw Failure(message); }

std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

const abi::Api& ort() { return api; }

int64_t Tensor::size() const {
  int64_t product = 1;
  for (int64_t length : shape) product *= length;
  return product;
}

std::string Node::name() const {
  size_t size = 0;
  if (!came(api.get_node_name(info_, nullptr, &size)) || size == 0) return "";
  std::string text(size, '\0');
  if (!came(api.get_node_name(info_, text.data(), &size))) return "";
  text.resize(size - 1);
  return text;
}

int64_t Node::integer(const char* attribute, int64_t otherwise) const {
  int64_t value = 0;
  return came(api.get_int(info_, attribute, &value)) ? value : otherwise;
}

float Node::number(const char* attribute, float otherwise) const {
  float value = 0;
  return came(api.get_float(info_, attribute, &value)) ? value : otherwise;
}

std::string Node::word(const char* attribute, const char* otherwise) const {
  size_t size = 0;
  if (!came(api.get_string(info_, attribute, nullptr, &size)) || size == 0) return otherwise;
  std::string text(size, '\0');
  check(api.get_string(info_, attribute, text.data(), &size));
  text.resize(size - 1);
  return text;
}

std::optional<Tensor> Node::constant(size_t input) const {
  size_t count = 0;
  check(api.get_node_input_count(info_, &count));
  if (input >= count) return std::nullopt;
  int is_constant = 0;
  const abi::Value* value = nullptr;
  if (!came(api.get_constant_input(info_, input, &is_constant, &value))) return std::nullopt;
  if (!is_constant || value == nullptr) return std::nullopt;
  return tensor(value);
}

std::optional<Tensor> Run::input(size_t index) const {
  size_t count = 0;
  check(api.get_input_count(context_, &count));
  if (index >= count) return std::nullopt;
  const abi::Value* value = nullptr;
  check(api.get_input(context_, index, &value));
  if (value == nullptr) return std::nullopt;
  return tensor(value);
}

Tensor Run::required(size_t index, const char* name) const {
  auto found = input(index);
  if (!found) fail(std::string(name) + " is missing");
  return *found;
}

void* Run::memory(size_t index, const Shape& shape) const {
  abi::Value* value = nullptr;
  check(api.get_output(context_, index, shape.data(), shape.size(), &value));
  if (value == nullptr) return nullptr;
  void* data = nullptr;
  check(api.get_tensor_data(value, &data));
  return data;
}

void Run::start(void (*call)(void*, size_t), size_t count, void* data) const {
  check(api.parallel_for(context_, call, count, 0, data));  // 0: taken one by one, as they come
}

void* Scratch::of(size_t number, size_t bytes) {
  thread_local std::vector<std::pair<Aligned, size_t>> buffers;
  while (buffers.size() <= number) buffers.emplace_back(Aligned(LINE), LINE);
  auto& [memory, size] = buffers[number];
  if (size < bytes) {
    memory = Aligned(bytes);
    size = bytes;
  }
  return memory.as<void>();
}

Aligned::Aligned(size_t bytes) {
  const size_t unit = bytes >= HUGE_PAGE ? HUGE_PAGE : LINE;
  const size_t size = (std::max(bytes, LINE) + LINE - 1) / LINE * LINE;
  void* memory = nullptr;
  if (posix_memalign(&memory, unit, size) != 0) throw std::bad_alloc();
  // Where weights are read as fast as memory gives them, looking up pages costs a tenth.
  if (unit == HUGE_PAGE) madvise(memory, size, MADV_HUGEPAGE);
  data.reset(static_cast<uint8_t*>(memory));
}

void Aligned::Release::operator()(uint8_t* memory) const { std::free(memory); }

}  // namespace gpt2onnx

// What ONNX Runtime calls in a library of custom operators.
extern "C" __attribute__((visibility("default"))) gpt2onnx::abi::Status* RegisterCustomOps(
    gpt2onnx::abi::SessionOptions* options, const gpt2onnx::abi::ApiBase* base) {
  using namespace gpt2onnx;
  if (!api.take(base->get_api(abi::VERSION))) {
    // Only the first function of an older table is asked for, which every version has.
    auto oldest = reinterpret_cast<decltype(api.create_status) const*>(base->get_api(1));
    return oldest[0](abi::ErrorCode::fail, "gpt2onnx-kernels needs ONNX Runtime 1.17 or later");
  }
  return guarded([&] {
    check(api.add_domain(options, domain_of({entry(options, "gpt2onnx.packed"),
                                             entry(options, "gpt2onnx.pack_to")})));
  });
}
