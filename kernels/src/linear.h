// Linear: layer norm, rounding, product, bias, activation, residual, in one operator.
#pragma once

#include "kernels.h"
#include "ort.h"
#include "packed_weights.h"

namespace gpt2onnx {

// Inputs
//   x          float32 [tokens, in]
//   weight     float32 [in, out], or [out, in] with transposed=1;
//              uint8 [out, blocks, block_size * bits / 8], MatMulNBits' layout; int8 [in, out]
//   scales     float32 or float16 [out, blocks], or float32 [out] of int8; none of float32
//   bias       float32 [out]
//   norm_gain, norm_bias  float32 [in]: the layer norm in front
//   residual   float32 [tokens, out], added last
//   selection  int64 [count]: which tokens have an output
//   directions, direction_scales    uint8 [rank, blocks, block_size], and as scales [rank, blocks]
//   corrections, correction_scales  uint8 [out, 1, rank * bits / 8], [out, 1]: what rounding leaves
//                     of x is measured along the directions, and the corrections times that belong
//                     to the product; for 8 bits of activations, by block
//   rest, rest_scales uint8 [others, blocks, block_size * bits / 8], [others, blocks]: more
//                     outputs, behind those of a uint8 weight, with 8 or 4 bits of their own
// Attributes
//   bits, block_size  of uint8 weights: 8 or 4; a multiple of 16, 256 at most
//   activation_bits   0 (none), 8 or 16: how x is rounded before the product with rounded weights
//   activation_block  0 for a scale a token, else the inputs that share a scale; of uint8 weights
//                     it has to be their block_size
//   activation        a name of kernels.h
//   epsilon           the layer norm's
// Outputs
//   y           float32 [tokens or count, out]
//   normalized  float32 [tokens or count, in], optional: behind the layer norm
class Linear {
 public:
  static constexpr const char* NAME = "Linear";
  static constexpr Argument INPUTS[] = {
      {Element::float32, false},  {Element::undefined, false}, {Element::undefined, true},
      {Element::float32, true},   {Element::float32, true},    {Element::float32, true},
      {Element::float32, true},   {Element::int64, true},      {Element::uint8, true},
      {Element::undefined, true}, {Element::uint8, true},      {Element::undefined, true},
      {Element::uint8, true},     {Element::undefined, true},
  };
  static constexpr Argument OUTPUTS[] = {{Element::float32, false}, {Element::float32, true}};

  explicit Linear(const Node& node);
  void run(const Run& run) const;

 private:
  struct Blocks;
  struct Task;
  PackedWeights packed_floats(const Node& node, const Tensor& weight);
  PackedWeights packed_blocks(const Node& node, const Tensor& weight, const Tensor& scales);
  PackedWeights packed_beside(const Node& node, const std::vector<Blocks>& parts,
                              const char* part) const;
  void add_directions(const Node& node, std::vector<Blocks>& parts);
  void add_rest(const Node& node);
  PackedWeights packed_columns(const Node& node, const Tensor& weight, const Tensor& scales);
  void publish_rows(const Tensor& weight, int64_t groups);
  void check_options() const;
  const float* normalized(const Run& run, const Task& task) const;
  const float* selected(const float* rows, const Task& task) const;
  Rounded room(int64_t rows, int64_t padded, int bits, size_t buffers) const;
  Rounded rounded(const Run& run, const Task& task) const;
  const float* normal(const Task& task, int64_t row) const;
  void correct(const Rounded& rest, int rows, const Rounded& x) const;
  void multiply(const Run& run, const Task& task, const float* x) const;
  void multiply(const Run& run, const Task& task, const Rounded& x) const;
  void multiply(const Run& run, const Task& task, const Rounded& x, const Packed& w,
                int64_t first_panel) const;
  void bring_in(const Task& task, int64_t row, int rows, int64_t panel, int panels) const;
  void finish(const Task& task, int64_t row, int rows, int64_t panel, const float* tile,
              int64_t tile_stride) const;

  const Kernels& kernels_;
  int64_t in_ = 0;      // inputs; of blocks, those they have room for
  int64_t out_ = 0;     // outputs, those of the rest too
  int64_t rest_out_ = 0;
  int64_t blocks_ = 0;  // of an output, with uint8 weights
  int64_t group_ = 0;   // inputs with one scale of weights and activations
  int64_t padded_ = 0;  // inputs filled up to whole groups, and the corrections'
  int64_t rank_ = 0;    // directions, and inputs of the corrections
  int64_t bits_, rest_bits_ = 0, block_size_, activation_bits_, activation_block_;
  float epsilon_;
  Activation activation_;
  Input bias_, gain_, shift_;
  bool by_column_ = false;
  PackedWeights weights_, directions_, rest_;
  std::shared_ptr<const PackedRows> rows_;  // what others read of the weights
};

}  // namespace gpt2onnx
