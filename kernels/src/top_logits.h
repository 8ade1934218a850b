// TopLogits: what choosing a token looks at, of some rows of logits: the largest of them, and sums.
#pragma once

#include "kernels.h"
#include "ort.h"

namespace gpt2onnx {

// Inputs
//   logits        float32 [rows, vocab]
//   index         int64 [count], the rows that are looked at
//   temperatures  float32 [count], above 0: what the sums' logits are divided by
// Outputs
//   ids           int64 [count, top], of the largest logits, the largest first; of equals, the
//                 lowest ids
//   logits        float32 [count, top]
//   logprobs      float32 [count, top], of log_softmax over the whole row
//   sums          float32 [count, blocks]: of exp((logit - the largest) / temperature) over each 256
// A row that isn't finite, -inf aside, has no order: its outputs are NaN, and its ids 0.
class TopLogits {
 public:
  static constexpr const char* NAME = "TopLogits";
  static constexpr Argument INPUTS[] = {
      {Element::float32, false}, {Element::int64, false}, {Element::float32, false}};
  static constexpr Argument OUTPUTS[] = {
      {Element::int64, false}, {Element::float32, false}, {Element::float32, false},
      {Element::float32, false}};

  explicit TopLogits(const Node& node);
  void run(const Run& run) const;

 private:
  const Kernels& kernels_;
  const int64_t top_;
};

}  // namespace gpt2onnx
