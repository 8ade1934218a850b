// The nucleus of a row: its most probable tokens, as few as leave no more than a share outside.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace gpt2onnx {

// What top-p asks of a row.
struct Asked {
  const float* logits;  // [vocab], without NaN
  int64_t vocab;
  const int64_t* top_ids;  // [top], of the largest, the largest first
  int64_t top;
  float temperature;  // what divides the logits
  float outside;      // the share that is left out, above 0 and below 1
};

// The smallest logit of the nucleus; `sums` [blocks] are then of exp((logit - peak) / temperature)
// over each BLOCK's tokens that stay. NaN, and no sums, where that can't be told: of equals some
// stay and some don't, or sums are too near the share, and whoever rounds otherwise has another
// border.
float nucleus(const Kernels& kernels, const Asked& asked, float* sums);

}  // namespace gpt2onnx
