// Attention: causal self-attention of flat tokens, in place on the KV cache.
#pragma once

#include "kernels.h"
#include "ort.h"

namespace gpt2onnx {

// Each token knows the row of the cache that it belongs to, and its slot there. Its key and value
// are put there, and it sees all slots of its row up to its own. The tokens of a row stand together,
// in the order of their slots.
//
// Inputs
//   qkv         float32 [tokens, 3 * heads * head_dim]
//   rows, slots int64 [tokens]
//   keys, values  [rows, heads, capacity, head_dim], float32, float16 or int8: written to
//   attention_mask  bool [tokens, tokens]: which of the run's tokens of its row each one sees;
//               empty where it's all up to itself
//   value_steps float32 [heads * head_dim], which the output is multiplied by: of an int8 cache
// Attributes
//   heads, scale  of the scores
// Output: float32 [tokens, heads * head_dim]
class Attention {
 public:
  static constexpr const char* NAME = "Attention";
  static constexpr Argument INPUTS[] = {
      {Element::float32, false},   {Element::int64, false},     {Element::int64, false},
      {Element::undefined, false}, {Element::undefined, false}, {Element::boolean, true},
      {Element::float32, true},
  };
  static constexpr Argument OUTPUTS[] = {{Element::float32, false}};

  explicit Attention(const Node& node);
  void run(const Run& run) const;

 private:
  struct Task;
  struct Part;
  void append(const Run& run, const Task& task) const;
  std::vector<Part> parts(const Task& task) const;
  void attend(const Task& task, const Part& part, const Part& next) const;
  void score_one(const Task& task, const Part& part, const Part& next, int64_t length,
                 float* scores) const;
  void score(const Task& task, const Part& part, int64_t length, float* scores,
             int64_t stride) const;
  void gather(const Task& task, const Part& part, int64_t length, const float* scores,
              int64_t stride, float* gathered) const;

  const Kernels& kernels_;
  int64_t heads_;
  float scale_;
};

}  // namespace gpt2onnx
