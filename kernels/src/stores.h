// How the tensors of a graph store their numbers, for the kernels.
#pragma once

#include <optional>

#include "kernels.h"
#include "ort.h"

namespace gpt2onnx {

inline int64_t width_of(Store store) {
  return store == Store::float32 ? 4 : store == Store::float16 ? 2 : 1;
}

inline std::optional<Store> store_of(Element type) {
  if (type == Element::float32) return Store::float32;
  if (type == Element::float16) return Store::float16;
  if (type == Element::int8) return Store::int8;
  return std::nullopt;
}

// Of a tensor of floats. Raises Failure, which says `name`, for any other.
inline Store store_of_floats(const std::string& name, const Tensor& floats) {
  auto store = store_of(floats.type);
  if (!store || store == Store::int8) fail(name + " has to be float32 or float16");
  return *store;
}

}  // namespace gpt2onnx
