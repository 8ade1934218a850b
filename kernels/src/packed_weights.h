// Weights in their packed form: in memory of a session's own, or in files that sessions map.
#pragma once

#include <functional>
#include <memory>

#include "kernels.h"
#include "ort.h"

namespace gpt2onnx {

// All that the packed bytes of a node depend on beside the weights' own values. It is the beginning
// of their file, and compared as a whole before any of the rest is touched.
struct alignas(64) Form {
  char version[16] = "gpt2onnx 4";  // of the files; a new one where the layout changes
  char kernels[16] = {};
  int64_t in, out;
  int64_t padded, group;  // as of Packed
  int64_t bits;             // of a level; 32 of floats
  int64_t scales;           // of an output: 0 of floats, 1 by column, else one a group
  int64_t scale_bits = 32;  // of one: 32, or 16 where all of them are half floats
  int64_t unused[5] = {};

  Form(const Kernels& kernels, int64_t in, int64_t out, int64_t padded, int64_t group, int64_t bits,
       int64_t scales);
  int64_t panels() const { return (out + LANES - 1) / LANES; }
  size_t level_bytes() const { return size_t(panels() * LANES * padded * bits / 8); }
  size_t scale_bytes() const { return scale_count() * size_t(scale_bits) / 8; }
  size_t scale_count() const { return size_t(panels() * LANES * scales); }
};
static_assert(sizeof(Form) == 128, "no byte of it is a gap that nobody sets");

// A node's levels and, behind them, its scales, each from a multiple of 64 bytes on.
class PackedWeights {
 public:
  using Pack = std::function<void(uint8_t* levels, float* scales)>;

  PackedWeights() = default;
  // What `pack` writes; or the file of the node, and of a part of it, in the folder that the
  // session's options name, which is mapped. Raises Failure where that file is missing, or another
  // form's, or can't be written.
  PackedWeights(const Node& node, Form form, const Pack& pack, const std::string& part = "");

  const uint8_t* levels() const { return levels_.get(); }
  const float* floats() const { return reinterpret_cast<const float*>(levels()); }
  const void* scales() const { return scales_.get(); }
  int scale_bits() const { return scale_bits_; }

 private:
  std::shared_ptr<const uint8_t> levels_, scales_;
  int scale_bits_ = 32;
};

// A matrix [out, in] that a product has packed, 8 bits or floats, whose rows another operator reads
// as well: it need not bring in the memory that they were packed from.
struct PackedRows {
  const Kernels& kernels;
  PackedWeights weights;
  int64_t padded, groups;

  // A row's levels around 128, [width], in `to`; and its scales, [groups].
  const uint8_t* levels(int64_t row, int64_t width, uint8_t* to) const;
  void scales(int64_t row, float* to) const;
  const float* floats(int64_t row, int64_t width, float* to) const;
};

// Those rows by where they lie unpacked, for as long as whoever packed them holds them.
void publish(const void* unpacked, const std::shared_ptr<const PackedRows>& rows);
std::shared_ptr<const PackedRows> published(const void* unpacked);

}  // namespace gpt2onnx
