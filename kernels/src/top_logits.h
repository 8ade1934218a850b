// TopLogits: what choosing a token looks at, of some rows of logits: the largest of them, and sums.
#pragma once

#include "kernels.h"
#include "ort.h"

namespace gpt2onnx {

// Inputs
//   logits        float32 [rows, vocab]
//   index         int64 [count], the rows that are looked at
//   temperatures  float32 [count], above 0: what the sums' logits are divided by
//   outside       float32 [count], the share of the sums that top-p leaves out, or 0 (optional)
// Outputs
//   ids           int64 [count, top], of the largest logits, the largest first; of equals, the
//                 lowest ids
//   logits        float32 [count, top]
//   logprobs      float32 [count, top], of log_softmax over the whole row
//   sums          float32 [count, blocks]: of exp((logit - the largest) / temperature) over each 256,
//                 of those tokens alone that top-p leaves where there is a border
//   borders       float32 [count]: the smallest logit that top-p leaves; NaN where it isn't asked, or
//                 can't be told for certain (nucleus.h); an optional output, as `outside` is
// A row that isn't finite, -inf aside, has no order: its outputs are NaN, and its ids 0.
class TopLogits {
 public:
  static constexpr const char* NAME = "TopLogits";
  static constexpr Argument INPUTS[] = {
      {Element::float32, false}, {Element::int64, false}, {Element::float32, false},
      {Element::float32, true}};
  static constexpr Argument OUTPUTS[] = {
      {Element::int64, false}, {Element::float32, false}, {Element::float32, false},
      {Element::float32, false}, {Element::float32, true}};

  explicit TopLogits(const Node& node);
  void run(const Run& run) const;

 private:
  const Kernels& kernels_;
  const int64_t top_;
};

}  // namespace gpt2onnx
