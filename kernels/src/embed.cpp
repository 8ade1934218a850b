#include "embed.h"

#include "stores.h"

namespace gpt2onnx {
namespace {

enum : size_t { STEPS, LEVELS, PLACE };  // scratch buffers

// A table's rows of blocks, checked, or of floats, which have no scales.
struct Rows {
  int64_t count, width;
  int64_t blocks = 0, size = 0, bits = 32;
  const void* levels;
  std::shared_ptr<const PackedRows> packed;  // the same rows, where a product has them
  const uint8_t* scales = nullptr;
  Store store = Store::float32;  // of the scales

  // Of floats, or of uint8 with 8 or 4 bits.
  Rows(const char* name, const Tensor& table, const std::optional<Tensor>& given, int64_t width,
       int64_t bits, std::shared_ptr<const PackedRows> packed = nullptr)
      : width(width), levels(table.data), packed(std::move(packed)) {
    const Shape& shape = table.shape;
    const std::string told = std::string(name) + " has the shape " + text_of(shape) + ", expected ";
    if (table.type == Element::float32) {
      if (shape.size() != 2 || shape[1] != width)
        fail(told + "[vocab, " + std::to_string(width) + "]");
    } else if (table.type == Element::uint8) {
      const bool whole = shape.size() == 3 && given && given->shape == Shape{shape[0], shape[1]};
      if (!whole || shape[1] * shape[2] * 8 / bits < width)
        fail(told + "[vocab, blocks, size] of " + std::to_string(width) +
             " with scales [vocab, blocks]");
      blocks = shape[1], size = shape[2] * 8 / bits, this->bits = bits;
      store = store_of_floats(std::string(name) + "_scales", *given);
      scales = given->as<uint8_t>();
    } else {
      fail(std::string(name) + " has to be float32 or uint8");
    }
    count = shape[0];
  }

  // A row, added to another.
  void add(int64_t row, const float* place, float* out) const {
    if (!scales) {
      const float* from = static_cast<const float*>(levels) + row * width;
      if (packed) from = packed->floats(row, width, Scratch::of<float>(STEPS, size_t(width)));
      for (int64_t i = 0; i < width; ++i) out[i] = from[i] + place[i];
      return;
    }
    const float zero = float(1 << (bits - 1));
    auto* steps = Scratch::of<float>(STEPS, size_t(packed ? packed->groups : blocks));
    const uint8_t* from;
    if (packed) {
      from = packed->levels(row, width, Scratch::of<uint8_t>(LEVELS, size_t(width)));
      packed->scales(row, steps);
    } else {
      from = static_cast<const uint8_t*>(levels) + row * blocks * size * bits / 8;
      kernels().take(scales + row * blocks * width_of(store), blocks, store, steps);
    }
    for (int64_t i = 0; i < width; ++i) {
      const int level = bits == 8 ? from[i] : from[i / 2] >> i % 2 * 4 & 15;
      out[i] = (float(level) - zero) * steps[i / size] + place[i];
    }
  }
};

void check_ids(const char* name, const Tensor& ids, int64_t tokens, int64_t limit) {
  if (ids.shape != Shape{tokens})
    fail(std::string(name) + " has the shape " + text_of(ids.shape) + ", expected [" +
         std::to_string(tokens) + "]");
  for (int64_t i = 0; i < tokens; ++i)
    if (ids.as<int64_t>()[i] < 0 || ids.as<int64_t>()[i] >= limit)
      fail(std::string(name) + " has " + std::to_string(ids.as<int64_t>()[i]) +
           ", expected 0 to " + std::to_string(limit - 1));
}

}  // namespace

// The table's rows as a product has packed them; looked for once all operators are made.
std::shared_ptr<const PackedRows> Embed::packed() const {
  std::call_once(looked_, [&] {
    if (table_) packed_ = published(table_->data);
  });
  return packed_;
}

void Embed::run(const Run& run) const {
  Tensor ids = run.required(0, "ids"), positions = run.required(1, "positions"),
         table = run.required(2, "table"), places = run.required(4, "places");
  auto rest = run.input(5);
  if (places.shape.size() != 2) fail("places has the shape " + text_of(places.shape));
  const int64_t width = places.shape[1], tokens = ids.size();
  const Rows first("table", table, run.input(3), width, 8, packed());
  std::optional<Rows> others;
  if (rest) others.emplace("rest", *rest, run.input(6), width, 4);
  check_ids("ids", ids, tokens, first.count + (others ? others->count : 0));
  check_ids("positions", positions, tokens, places.shape[0]);
  const Store store = store_of_floats("places", places);
  auto* place = Scratch::of<float>(PLACE, size_t(width));
  float* out = run.output(0, {tokens, width});
  for (int64_t token = 0; token < tokens; ++token, out += width) {
    const int64_t id = ids.as<int64_t>()[token];
    kernels().take(places.as<uint8_t>() + positions.as<int64_t>()[token] * width * width_of(store),
                   width, store, place);
    if (id < first.count) first.add(id, place, out);
    else others->add(id - first.count, place, out);
  }
}

}  // namespace gpt2onnx
