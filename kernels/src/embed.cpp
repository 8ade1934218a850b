#include "embed.h"

namespace gpt2onnx {
namespace {

constexpr float ZERO = 128;  // the level of nothing

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

void Embed::run(const Run& run) const {
  Tensor ids = run.required(0, "ids"), positions = run.required(1, "positions"),
         table = run.required(2, "table"), places = run.required(4, "places");
  auto scales = run.input(3);
  if (places.shape.size() != 2) fail("places has the shape " + text_of(places.shape));
  const int64_t width = places.shape[1], tokens = ids.size();
  int64_t blocks = 0, size = 0;
  if (table.type == Element::float32) {
    if (table.shape.size() != 2 || table.shape[1] != width)
      fail("table has the shape " + text_of(table.shape) + ", expected [vocab, " +
           std::to_string(width) + "]");
  } else if (table.type == Element::uint8) {
    bool whole = table.shape.size() == 3 && scales &&
                 scales->shape == Shape{table.shape[0], table.shape[1]};
    if (!whole || table.shape[1] * table.shape[2] < width)
      fail("table has the shape " + text_of(table.shape) + ", expected [vocab, blocks, size] of " +
           std::to_string(width) + " with scales [vocab, blocks]");
    blocks = table.shape[1], size = table.shape[2];
  } else {
    fail("table has to be float32 or uint8");
  }
  check_ids("ids", ids, tokens, table.shape[0]);
  check_ids("positions", positions, tokens, places.shape[0]);
  float* out = run.output(0, {tokens, width});
  for (int64_t token = 0; token < tokens; ++token, out += width) {
    int64_t id = ids.as<int64_t>()[token];
    const float* place = places.as<float>() + positions.as<int64_t>()[token] * width;
    if (!blocks) {
      const float* row = table.as<float>() + id * width;
      for (int64_t i = 0; i < width; ++i) out[i] = row[i] + place[i];
    } else {
      const uint8_t* row = table.as<uint8_t>() + id * blocks * size;
      const float* factors = scales->as<float>() + id * blocks;
      for (int64_t i = 0; i < width; ++i)
        out[i] = (float(row[i]) - ZERO) * factors[i / size] + place[i];
    }
  }
}

}  // namespace gpt2onnx
