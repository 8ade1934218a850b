// Embed: a token's row of one table and a position's row of another, added.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "kernels.h"
#include "ort.h"
#include "packed_weights.h"

namespace gpt2onnx {

// Inputs
//   ids, positions  int64 [tokens]
//   table       float32 [vocab, width], or uint8 [vocab, blocks, block_size], which may be the
//               head's weight as well: it is then read as the head has packed it
//   scales      float32 or float16 [vocab, blocks] of a uint8 table
//   places      float32 or float16 [n_positions, width]
//   rest, rest_scales  uint8 [others, blocks, block_size / 2], and as scales [others, blocks]: the
//               rows of the ids behind a uint8 table's, of 4 bits
// Output: float32 [tokens, width]
class Embed {
 public:
  static constexpr const char* NAME = "Embed";
  static constexpr Argument INPUTS[] = {
      {Element::int64, false}, {Element::int64, false}, {Element::undefined, false},
      {Element::undefined, true}, {Element::undefined, false},
      {Element::uint8, true}, {Element::undefined, true},
  };
  static constexpr Argument OUTPUTS[] = {{Element::float32, false}};

  explicit Embed(const Node& node) : table_(node.constant(2)) {}
  void run(const Run& run) const;

 private:
  std::shared_ptr<const PackedRows> packed() const;

  const std::optional<Tensor> table_;
  mutable std::once_flag looked_;
  mutable std::shared_ptr<const PackedRows> packed_;
};

}  // namespace gpt2onnx
