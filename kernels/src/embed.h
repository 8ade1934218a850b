// Embed: a token's row of one table and a position's row of another, added.
#pragma once

#include "kernels.h"
#include "ort.h"

namespace gpt2onnx {

// Inputs
//   ids, positions  int64 [tokens]
//   table       float32 [vocab, width], or uint8 [vocab, blocks, block_size], which may be the
//               head's weight as well
//   scales      float32 [vocab, blocks] of a uint8 table
//   places      float32 [n_positions, width]
// Output: float32 [tokens, width]
class Embed {
 public:
  static constexpr const char* NAME = "Embed";
  static constexpr Argument INPUTS[] = {
      {Element::int64, false}, {Element::int64, false}, {Element::undefined, false},
      {Element::float32, true}, {Element::float32, false},
  };
  static constexpr Argument OUTPUTS[] = {{Element::float32, false}};

  explicit Embed(const Node&) {}
  void run(const Run& run) const;
};

}  // namespace gpt2onnx
