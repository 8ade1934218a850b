#include "linear.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "stores.h"

namespace gpt2onnx {
namespace {

// Scratch buffers by number.
enum : size_t {
  NORMALIZED, LEVELS, SCALES, SUMS, ROW, SUMS_OF_ROWS, RESIDUAL, REST, REST_SCALES, REST_SUMS
};

// Rows and weights of one task fit the second-level cache, and are worth starting it.
constexpr int64_t ROW_BYTES = 256 << 10, WEIGHT_BYTES = 96 << 10;
// So few rows are normalized and rounded sooner than other threads begin.
constexpr int64_t FEW_ROWS = 4;
// Inputs of a panel of floats that stay in the second-level cache beside rows.
constexpr int64_t FLOAT_INPUTS = 768;
constexpr int MOST_ROWS = 16, MOST_PANELS = 4;

// How many parts of `size` there are in n.
int64_t parts(int64_t n, int64_t size) { return (n + size - 1) / size; }
int64_t up(int64_t n, int64_t multiple) { return parts(n, multiple) * multiple; }
int64_t panels_of(int64_t out) { return parts(out, LANES); }

Activation activation_named(const std::string& name) {
  static constexpr std::pair<const char*, Activation> ALL[] = {
      {"linear", Activation::linear},         {"gelu", Activation::gelu},
      {"gelu_tanh", Activation::gelu_tanh},   {"gelu_10", Activation::gelu_10},
      {"laplace", Activation::laplace},       {"leaky_relu", Activation::leaky_relu},
      {"mish", Activation::mish},             {"quick_gelu", Activation::quick_gelu},
      {"relu", Activation::relu},             {"relu2", Activation::relu2},
      {"relu6", Activation::relu6},           {"sigmoid", Activation::sigmoid},
      {"silu", Activation::silu},             {"tanh", Activation::tanh},
  };
  for (const auto& [known, activation] : ALL)
    if (name == known) return activation;
  fail("unknown activation " + name);
}

void expect(const char* name, const Tensor& tensor, const Shape& shape) {
  if (tensor.shape != shape)
    fail(std::string(name) + " has the shape " + text_of(tensor.shape) + ", expected " +
         text_of(shape));
}

}  // namespace

// A run's inputs, checked.
struct Linear::Task {
  Tensor x;
  int64_t rows, in;
  const float* bias = nullptr;
  const float* gain = nullptr;
  const float* shift = nullptr;
  const float* residual = nullptr;
  const int64_t* selection = nullptr;
  float* out = nullptr;
  float* normalized = nullptr;  // where the node gives them, too

  const float* row(int64_t number) const {
    return x.as<float>() + (selection ? selection[number] : number) * in;
  }
};

Linear::Linear(const Node& node)
    : kernels_(kernels()),
      bits_(node.integer("bits", 8)),
      block_size_(node.integer("block_size", 32)),
      activation_bits_(node.integer("activation_bits", 0)),
      activation_block_(node.integer("activation_block", 0)),
      epsilon_(node.number("epsilon", 1e-5f)),
      activation_(activation_named(node.word("activation", "linear"))),
      bias_(node, 3),
      gain_(node, 4),
      shift_(node, 5) {
  auto weight = node.constant(1), scales = node.constant(2);
  if (!weight) fail("the weight has to be a constant");
  if (weight->type != Element::uint8 && (node.constant(8) || node.constant(12)))
    fail("directions and rest are for uint8 weights");
  if (weight->type == Element::float32) {
    if (activation_bits_ != 0) fail("activation_bits is for rounded weights, these are float32");
    weights_ = packed_floats(node, *weight);
    if (node.integer("transposed", 0)) publish_rows(*weight, 0);
    return;
  }
  check_options();
  if (!scales) fail("rounded weights need scales, and constant ones");
  if (weight->type == Element::uint8) {
    weights_ = packed_blocks(node, *weight, *scales);
    if (bits_ == 8) publish_rows(*weight, parts(padded_, group_));
  } else if (weight->type == Element::int8) {
    weights_ = packed_columns(node, *weight, *scales);
  } else {
    fail("the weight has to be float32, uint8 or int8");
  }
}

// So that an embedding can have the weight as its table.
void Linear::publish_rows(const Tensor& weight, int64_t groups) {
  rows_ = std::make_shared<const PackedRows>(PackedRows{kernels_, weights_, padded_, groups});
  publish(weight.data, rows_);
}

void Linear::check_options() const {
  if (activation_bits_ != 8 && activation_bits_ != 16)
    fail("activation_bits is " + std::to_string(activation_bits_) + ", expected 8 or 16");
  if (bits_ != 8 && bits_ != 4) fail("bits is " + std::to_string(bits_) + ", expected 8 or 4");
  int64_t block = activation_block_;
  if (block < 0 || block > LONGEST_GROUP || block % LANES)
    fail("activation_block is " + std::to_string(block) + ", expected a multiple of 16 up to 256");
}

PackedWeights Linear::packed_floats(const Node& node, const Tensor& weight) {
  const bool transposed = node.integer("transposed", 0) != 0;
  if (weight.shape.size() != 2)
    fail("the weight has the shape " + text_of(weight.shape) + ", expected [in, out]");
  in_ = weight.shape[transposed], out_ = weight.shape[!transposed];
  if (in_ < 1 || out_ < 1) fail("the weight is empty");
  padded_ = in_;
  return {node, {kernels_, in_, out_, in_, in_, 32, 0}, [&](uint8_t* levels, float*) {
    const float* from = weight.as<float>();
    float* to = reinterpret_cast<float*>(levels);
    for (int64_t panel = 0; panel < panels_of(out_); ++panel)
      for (int64_t k = 0; k < in_; ++k, to += LANES)
        for (int64_t lane = 0; lane < LANES; ++lane) {
          int64_t n = panel * LANES + lane;
          to[lane] = n >= out_ ? 0.0f : transposed ? from[n * in_ + k] : from[k * out_ + n];
        }
  }};
}

// A matrix in MatMulNBits' layout: its levels and scales, checked.
struct Linear::Blocks {
  Tensor levels, scales;
  int64_t bits, size;  // of a block
  int64_t out, count;  // blocks of an output
  Store store;         // of the scales

  Blocks(const char* name, const Tensor& levels, const char* scales_name, const Tensor& scales,
         int64_t bits, int64_t size)
      : levels(levels), scales(scales), bits(bits), size(size) {
    const Shape& shape = levels.shape;
    if (levels.type != Element::uint8 || shape.size() != 3 || shape[2] != size * bits / 8 ||
        levels.size() < 1)
      fail(std::string(name) + " has the shape " + text_of(shape) +
           ", expected uint8 [out, blocks, " + std::to_string(size * bits / 8) + "]");
    out = shape[0], count = shape[1];
    store = store_of_floats(scales_name, scales);
    expect(scales_name, scales, {out, count});
  }

  int64_t inputs() const { return count * size; }
  // An output's levels, [inputs].
  void take(int64_t n, uint8_t* to) const {
    const int64_t bytes = inputs() * bits / 8;
    const uint8_t* from = levels.as<uint8_t>() + n * bytes;
    if (bits == 8) std::memcpy(to, from, size_t(bytes));
    else for (int64_t i = 0; i < bytes; ++i) to[2 * i] = from[i] & 15, to[2 * i + 1] = from[i] >> 4;
  }
  // An output's scales, [count].
  void take_scales(const Kernels& kernels, int64_t n, float* to) const {
    kernels.take(scales.as<uint8_t>() + n * count * width_of(store), count, store, to);
  }
};

// The parts beside each other, each with the inputs behind the last one's.
PackedWeights Linear::packed_beside(const Node& node, const std::vector<Blocks>& parts,
                                    const char* part) const {
  const Blocks& most = parts.front();
  const int64_t out = most.out;
  int64_t padded = 0, groups = 0;
  for (const Blocks& each : parts) padded += each.inputs(), groups += each.count;
  return {node, {kernels_, most.inputs(), out, padded, most.size, most.bits, groups},
          [&](uint8_t* packed, float* scales) {
    std::vector<uint8_t> levels(size_t(LANES * padded));
    std::vector<float> steps(static_cast<size_t>(groups));
    for (int64_t first = 0; first < out; first += LANES, packed += LANES * padded * most.bits / 8) {
      std::fill(levels.begin(), levels.end(), uint8_t(0));
      int64_t start = 0;
      for (const Blocks& each : parts) {
        std::fill_n(scales, each.count * LANES, 0.0f);
        for (int64_t n = first; n < std::min(first + LANES, out); ++n) {
          each.take(n, levels.data() + (n - first) * padded + start);
          each.take_scales(kernels_, n, steps.data());
          for (int64_t block = 0; block < each.count; ++block)
            scales[block * LANES + n - first] = steps[size_t(block)];
        }
        scales += each.count * LANES;
        start += each.inputs();
      }
      kernels_.pack(levels.data(), padded, int(most.bits), packed);
    }
  }, part};
}

PackedWeights Linear::packed_blocks(const Node& node, const Tensor& weight, const Tensor& scales) {
  if (block_size_ < LANES || block_size_ > LONGEST_GROUP || block_size_ % LANES)
    fail("block_size is " + std::to_string(block_size_) +
         ", expected a multiple of 16 up to 256");
  if (activation_block_ != 0 && activation_block_ != block_size_)
    fail("activation_block is " + std::to_string(activation_block_) +
         ", expected 0 or the weights' block_size, " + std::to_string(block_size_));
  std::vector<Blocks> parts{{"the weight", weight, "scales", scales, bits_, block_size_}};
  out_ = parts[0].out, blocks_ = parts[0].count;
  group_ = block_size_, in_ = padded_ = parts[0].inputs();
  add_directions(node, parts);
  add_rest(node);
  return packed_beside(node, parts, "");
}

// Packs the outputs behind the weight's.
void Linear::add_rest(const Node& node) {
  auto levels = node.constant(12), scales = node.constant(13);
  if (!levels && !scales) return;
  if (!levels || !scales) fail("rest and rest_scales go together, and are constants");
  if (rank_) fail("rest and directions don't go together");
  if (out_ % LANES)
    fail("the weight has " + std::to_string(out_) +
         " outputs, expected a multiple of 16 before rest");
  rest_bits_ = levels->shape.size() == 3 && levels->shape[2] == block_size_ ? 8 : 4;
  Blocks rest{"rest", *levels, "rest_scales", *scales, rest_bits_, block_size_};
  if (rest.count != blocks_)
    fail("rest has the shape " + text_of(levels->shape) + ", which doesn't fit the weight");
  rest_ = packed_beside(node, {rest}, ".rest");
  rest_out_ = rest.out, out_ += rest.out;
}

// Packs the directions; the corrections become a part of the weights.
void Linear::add_directions(const Node& node, std::vector<Blocks>& parts) {
  auto directions = node.constant(8), steps = node.constant(9), corrections = node.constant(10),
       scales = node.constant(11);
  const int given = !!directions + !!steps + !!corrections + !!scales;
  if (given == 0) return;
  if (given != 4)
    fail("directions, corrections and their scales go together, and are constants");
  if (activation_bits_ != 8 || activation_block_ == 0)
    fail("directions are for 8 bits of activations, by block");
  Blocks along{"directions", *directions, "direction_scales", *steps, 8, block_size_};
  rank_ = along.out;
  if (rank_ % LANES || rank_ > block_size_)
    fail("there are " + std::to_string(rank_) +
         " directions, expected a multiple of 16 up to the block_size, " +
         std::to_string(block_size_));
  Blocks added{"corrections", *corrections, "correction_scales", *scales, bits_, rank_};
  if (along.count != blocks_ || added.out != out_ || added.count != 1)
    fail("directions have the shape " + text_of(directions->shape) + ", corrections " +
         text_of(corrections->shape) + ", which don't fit the weight");
  directions_ = packed_beside(node, {along}, ".directions");
  parts.push_back(added), padded_ += rank_;
}

PackedWeights Linear::packed_columns(const Node& node, const Tensor& weight, const Tensor& scales) {
  if (bits_ != 8) fail("int8 weights have 8 bits, bits is " + std::to_string(bits_));
  if (weight.shape.size() != 2 || weight.size() < 1)
    fail("the weight has the shape " + text_of(weight.shape) + ", expected [in, out]");
  in_ = weight.shape[0], out_ = weight.shape[1];
  if (scales.type != Element::float32) fail("scales of int8 have to be float32");
  expect("scales", scales, {out_});
  by_column_ = true;
  // Groups as even as can be; sums of 16-bit levels want them.
  int64_t count = parts(in_, LONGEST_GROUP);
  group_ = activation_block_ ? activation_block_ : up(parts(in_, count), LANES);
  padded_ = up(in_, group_);
  return {node, {kernels_, in_, out_, padded_, group_, bits_, 1}, [&](uint8_t* packed, float* to) {
    std::vector<uint8_t> levels(size_t(LANES * padded_), 128);
    auto* from = weight.as<uint8_t>();
    for (int64_t panel = 0; panel < panels_of(out_); ++panel) {
      for (int64_t lane = 0; lane < LANES; ++lane) {
        int64_t n = panel * LANES + lane;
        for (int64_t k = 0; k < in_; ++k)
          levels[size_t(lane * padded_ + k)] = n < out_ ? from[k * out_ + n] ^ 0x80 : 128;
        to[n] = n < out_ ? scales.as<float>()[n] : 0.0f;
      }
      kernels_.pack(levels.data(), padded_, int(bits_), packed + panel * padded_ * LANES);
    }
  }};
}

// The rows [out] that are wanted, after each other.
const float* Linear::selected(const float* rows, const Task& task) const {
  if (!task.selection) return rows;
  auto* all = Scratch::of<float>(RESIDUAL, size_t(task.rows * out_));
  for (int64_t i = 0; i < task.rows; ++i)
    std::memcpy(all + i * out_, rows + task.selection[i] * out_, size_t(out_) * sizeof(float));
  return all;
}

void Linear::run(const Run& run) const {
  Task task{run.required(0, "x"), 0, 0};
  const auto& shape = task.x.shape;
  if (shape.size() != 2) fail("x has the shape " + text_of(shape) + ", expected [tokens, in]");
  task.in = shape[1], task.rows = shape[0];
  bool fits = blocks_ ? task.in > in_ - block_size_ && task.in <= in_ : task.in == in_;
  if (!fits)
    fail("x has the shape " + text_of(shape) + ", the weight " + std::to_string(in_) + " inputs");
  auto bias = bias_.of(run), gain = gain_.of(run), shift = shift_.of(run), residual = run.input(6),
       selection = run.input(7);
  if (bias) expect("bias", *bias, {out_}), task.bias = bias->as<float>();
  if (!gain != !shift) fail("norm_gain and norm_bias go together");
  if (gain) {
    expect("norm_gain", *gain, {task.in}), task.gain = gain->as<float>();
    expect("norm_bias", *shift, {task.in}), task.shift = shift->as<float>();
  }
  if (selection) {
    if (selection->shape.size() != 1)
      fail("selection has the shape " + text_of(selection->shape) + ", expected [count]");
    task.rows = selection->shape[0], task.selection = selection->as<int64_t>();
    for (int64_t i = 0; i < task.rows; ++i)
      if (task.selection[i] < 0 || task.selection[i] >= shape[0])
        fail("selection has the token " + std::to_string(task.selection[i]) + " of " +
             std::to_string(shape[0]));
  }
  if (residual) {
    expect("residual", *residual, {shape[0], out_});
    task.residual = selected(residual->as<float>(), task);
  }
  task.out = run.output(0, {task.rows, out_});
  task.normalized = run.output(1, {task.rows, task.in});
  if (task.normalized && !gain) fail("normalized has nothing to give without norm_gain");
  if (task.rows == 0) return;
  if (activation_bits_) multiply(run, task, rounded(run, task));
  else multiply(run, task, normalized(run, task));
}

// Calls each(row, row end) for all rows, together with other threads where it's worth it.
template <class Each>
static void for_rows(const Run& run, int64_t rows, const Each& each) {
  if (rows <= FEW_ROWS) return each(int64_t(0), rows);
  run.parallel(size_t(parts(rows, FEW_ROWS)), [&](size_t part) {
    const int64_t first = int64_t(part) * FEW_ROWS;
    each(first, std::min(first + FEW_ROWS, rows));
  });
}

// The rows wanted, normalized, after each other.
const float* Linear::normalized(const Run& run, const Task& task) const {
  if (!task.gain && !task.selection) return task.x.as<float>();
  auto* all = task.normalized
                  ? task.normalized
                  : Scratch::of<float>(NORMALIZED, size_t(task.rows * task.in));
  for_rows(run, task.rows, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      float* to = all + row * task.in;
      if (task.gain)
        kernels_.normalize(task.row(row), task.in, task.gain, task.shift, epsilon_, to);
      else std::memcpy(to, task.row(row), size_t(task.in) * sizeof(float));
    }
  });
  return all;
}

// A row behind the layer norm.
const float* Linear::normal(const Task& task, int64_t row) const {
  if (!task.gain) return task.row(row);
  auto* to = task.normalized ? task.normalized + row * task.in
                             : Scratch::of<float>(ROW, size_t(task.in));
  kernels_.normalize(task.row(row), task.in, task.gain, task.shift, epsilon_, to);
  return to;
}

// Memory for rounded rows, in three scratch buffers from `buffers` on.
Rounded Linear::room(int64_t rows, int64_t padded, int bits, size_t buffers) const {
  Rounded x{};
  x.padded = padded, x.group = group_, x.bits = bits;
  x.by_token = activation_block_ == 0;
  x.row_bytes = up(padded * kernels_.level_bytes * (bits == 16 ? kernels_.planes16 : 1), LANES);
  x.levels = Scratch::of<uint8_t>(buffers, size_t(rows * x.row_bytes));
  x.scales = Scratch::of<float>(buffers + 1, size_t(rows * x.groups()));
  x.sums = Scratch::of<int32_t>(buffers + 2, size_t(rows * x.groups()));
  return x;
}

Rounded Linear::rounded(const Run& run, const Task& task) const {
  const Rounded x = room(task.rows, padded_, int(activation_bits_), LEVELS);
  // The first rows would wait for them, each line by itself.
  for (int64_t at = 0; at < rank_ * in_; at += 64)
    __builtin_prefetch(directions_.levels() + at, 0, 2);
  for_rows(run, task.rows, [&](int64_t row, int64_t end) {
    if (!rank_) {
      for (; row < end; ++row) kernels_.round(normal(task, row), task.in, x, row);
      return;
    }
    const Rounded rest = room(end - row, in_, 8, REST);
    Rounded these = x;  // of its rows, from 0 on
    these.levels += row * x.row_bytes;
    these.scales += row * x.groups(), these.sums += row * x.groups();
    for (int64_t i = row; i < end; ++i)
      kernels_.split(normal(task, i), task.in, these, rest, i - row);
    correct(rest, int(end - row), these);
  });
  return x;
}

// Measures what rounding left along the directions: the corrections' inputs, x's last group.
void Linear::correct(const Rounded& rest, int rows, const Rounded& x) const {
  const Packed along{in_, group_, rank_ / LANES, 8, false, directions_.levels(),
                     directions_.scales(), directions_.scale_bits()};
  float lengths[FEW_ROWS][LONGEST_GROUP];
  alignas(64) float tile[FEW_ROWS * MOST_PANELS * LANES];
  for (int64_t panel = 0, some; panel < along.panels; panel += some) {
    some = along.panels - panel >= kernels_.panels ? kernels_.panels : 1;
    kernels_.product(rest, {0, 0, 1}, rows, along, panel, int(some), tile);
    for (int row = 0; row < rows; ++row)
      std::memcpy(lengths[row] + panel * LANES, tile + row * some * LANES,
                  size_t(some * LANES) * sizeof(float));
  }
  for (int row = 0; row < rows; ++row) {
    const int64_t last = (row + 1) * x.groups() - 1;
    uint8_t* levels = x.levels + row * x.row_bytes + in_ * kernels_.level_bytes;
    kernels_.round(lengths[row], rank_,
                   {rank_, group_, 8, false, 0, levels, x.scales + last, x.sums + last}, 0);
  }
}

// Cuts a product into tasks of rows and panels: each(row, row end, panel, panels), with
// `tile_panels` panels or one. Rows come in order, as even as can be.
template <class Each>
static void for_blocks(const Run& run, int64_t rows, int64_t most_rows, int64_t panels,
                       int64_t row_bytes, int64_t panel_bytes, int tile_rows, int tile_panels,
                       const Each& each) {
  const int64_t most = std::max<int64_t>(std::min(ROW_BYTES / row_bytes, most_rows), tile_rows);
  const int64_t row_block = up(parts(rows, parts(rows, most)), tile_rows);
  const int64_t panel_block =
      std::max<int64_t>(WEIGHT_BYTES / panel_bytes / tile_panels, 1) * tile_panels;
  const int64_t across = parts(panels, panel_block), down = parts(rows, row_block);
  run.parallel(size_t(across * down), [&](size_t part) {
    int64_t panel = int64_t(part) % across * panel_block, row = int64_t(part) / across * row_block;
    int64_t panel_end = std::min(panel + panel_block, panels);
    for (int some; panel < panel_end; panel += some) {
      some = panel_end - panel >= tile_panels ? tile_panels : 1;
      each(row, std::min(row + row_block, rows), panel, some);
    }
  });
}

// Has the lines that `finish` writes brought in while their product is made: each row's lie in a
// page of their own, which no processor foresees.
void Linear::bring_in(const Task& task, int64_t row, int rows, int64_t panel, int panels) const {
  const int64_t first = panel * LANES, end = std::min(first + panels * LANES, out_);
  for (int64_t at = row * out_; at < (row + rows) * out_; at += out_)
    for (int64_t n = first; n < end; n += LANES) {
      __builtin_prefetch(task.out + at + n, 1);
      if (task.residual) __builtin_prefetch(task.residual + at + n);
    }
}

// Bias, activation and residual of a panel's rows.
void Linear::finish(const Task& task, int64_t row, int rows, int64_t panel, const float* tile,
                    int64_t tile_stride) const {
  int64_t n = panel * LANES, at = row * out_ + n;
  kernels_.finish(tile, tile_stride, rows,
                  {task.bias ? task.bias + n : nullptr, activation_,
                   task.residual ? task.residual + at : nullptr, task.out + at, out_,
                   int(std::min<int64_t>(LANES, out_ - n))});
}

void Linear::multiply(const Run& run, const Task& task, const Rounded& x) const {
  auto packed = [&](const PackedWeights& weights, int64_t out, int64_t bits) {
    return Packed{padded_, group_, panels_of(out), int(bits), by_column_, weights.levels(),
                  weights.scales(), weights.scale_bits()};
  };
  const int64_t most = out_ - rest_out_;
  multiply(run, task, x, packed(weights_, most, bits_), 0);
  if (rest_out_) multiply(run, task, x, packed(rest_, rest_out_, rest_bits_), panels_of(most));
}

// The outputs of `w`, whose panels are those from `first_panel` on.
void Linear::multiply(const Run& run, const Task& task, const Rounded& x, const Packed& w,
                      int64_t first_panel) const {
  const int most = kernels_.rows;
  for_blocks(run, task.rows, TASK_ROWS, w.panels, x.row_bytes, w.panel_bytes(), most,
             kernels_.panels, [&](int64_t row, int64_t row_end, int64_t panel, int some) {
    alignas(64) float tile[MOST_ROWS * MOST_PANELS * LANES];
    const int tiles = int(parts(row_end - row, most));
    for (int number = 0; number < tiles; ++number) {
      int rows = int(parts(row_end - row, tiles - number));  // as even as can be
      bring_in(task, row, rows, first_panel + panel, some);
      kernels_.product(x, {row, number, tiles}, rows, w, panel, some, tile);
      for (int p = 0; p < some; ++p)
        finish(task, row, rows, first_panel + panel + p, tile + p * LANES, some * LANES);
      row += rows;
    }
  });
}

void Linear::multiply(const Run& run, const Task& task, const float* x) const {
  const int64_t in_bytes = in_ * int64_t(sizeof(float));
  const int most = kernels_.float_rows;
  // Floats are four times as much to read again.
  for_blocks(run, task.rows, 2 * TASK_ROWS, panels_of(out_), in_bytes, in_bytes * LANES, most, 1,
             [&](int64_t row, int64_t row_end, int64_t panel, int) {
    // Of one tile's rows all inputs at once; of more so many that their weights stay near.
    const int64_t inputs = row_end - row > most ? FLOAT_INPUTS : in_;
    auto* sums = Scratch::of<float>(SUMS_OF_ROWS, size_t((row_end - row) * LANES));
    for (int64_t k = 0; k < in_; k += inputs)
      kernels_.float_product({x + row * in_ + k, in_, int(row_end - row),
                              weights_.floats() + (panel * in_ + k) * LANES, LANES, LANES,
                              Store::float32, std::min(inputs, in_ - k), sums, LANES, k > 0, true});
    finish(task, row, int(row_end - row), panel, sums, LANES);
  });
}

}  // namespace gpt2onnx
