#include "top_logits.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "nucleus.h"

namespace gpt2onnx {
namespace {

constexpr float NONE = std::numeric_limits<float>::quiet_NaN();

// A logit that isn't NaN, and its place, as a number: the smaller, the larger the logit, and of
// equals the lower the id.
uint64_t key_of(float logit, int64_t id) {
  uint32_t bits;
  logit += 0.0f;  // -0 is 0
  std::memcpy(&bits, &logit, sizeof(bits));
  const uint32_t falling = bits >> 31 ? bits : ~bits & 0x7fffffff;
  return uint64_t(falling) << 32 | uint64_t(id);
}

int64_t id_of(uint64_t key) { return int64_t(key & 0xffffffff); }

// One row, and where what is found of it goes.
struct Row {
  const float* logits;  // [vocab]
  int64_t vocab;
  int64_t* ids;  // [top]
  float* top_logits;
  float* logprobs;
  int64_t top;
};

int64_t blocks_of(int64_t vocab) { return (vocab + BLOCK - 1) / BLOCK; }

// The largest logits of columns, LANES apart: which columns can have one of the `top` largest. There
// are four times as many columns as are looked for, unless a column then has fewer logits than two.
struct Maxima {
  Maxima(const Kernels& kernels, const Row& row) {
    while (column > 2 && row.vocab / column < 4 * row.top) column /= 2;
    const int64_t step = column * LANES;
    count = (row.vocab + step - 1) / step * LANES;
    values = Scratch::of<float>(0, size_t(count));
    kernels.maxima(row.logits, row.vocab, column, values);
  }

  float peak() const { return *std::max_element(values, values + count); }

  int64_t column = COLUMN, count;
  float* values;  // [count]
};

// What the `top`-th largest of some numbers is at least, and not far from: their range is cut into
// bins, and it is the least one of the bin that the top-th stands in.
float bound(const float* numbers, int64_t count, int64_t top, float peak) {
  constexpr int BINS = 256;
  constexpr float RANGE = 64;  // what lies further below the largest shares the last bin
  float least = peak;
  for (int64_t i = 0; i < count; ++i) least = std::min(least, numbers[i]);
  const float by = (BINS - 1) / std::max(std::min(peak - least, RANGE), 1e-6f);
  int counts[BINS] = {};
  float lowest[BINS];
  std::fill_n(lowest, BINS, peak);
  for (int64_t i = 0; i < count; ++i) {
    const int bin = int(std::min((peak - numbers[i]) * by, float(BINS - 1)));
    ++counts[bin];
    lowest[bin] = std::min(lowest[bin], numbers[i]);
  }
  int bin = 0;
  for (int64_t above = counts[0]; above < top; above += counts[bin]) ++bin;
  return lowest[bin];
}

// Keys of every logit that can be among the `top` largest, in any order: the top-th largest of all
// is at least that of the columns' maxima.
std::vector<uint64_t> candidates(const Row& row, const Maxima& maxima, float peak) {
  const int64_t columns = maxima.count, column = maxima.column;
  float least = -std::numeric_limits<float>::infinity();
  if (columns > row.top) least = bound(maxima.values, columns, row.top, peak);
  std::vector<uint64_t> found;
  found.reserve(size_t(2 * row.top));
  for (int64_t i = 0; i < columns; ++i) {
    if (maxima.values[i] < least) continue;
    const int64_t first = i / LANES * column * LANES + i % LANES;
    const int64_t end = std::min(row.vocab, first + column * LANES);
    for (int64_t id = first; id < end; id += LANES)
      if (row.logits[id] >= least) found.push_back(key_of(row.logits[id], id));
  }
  return found;
}

void put_nothing(const Row& row) {
  std::fill_n(row.ids, row.top, 0);
  std::fill_n(row.top_logits, row.top, NONE);
  std::fill_n(row.logprobs, row.top, NONE);
}

void put_top(const Row& row, const Maxima& maxima, float peak, double sum) {
  std::vector<uint64_t> found = candidates(row, maxima, peak);
  std::nth_element(found.begin(), found.begin() + (row.top - 1), found.end());
  std::sort(found.begin(), found.begin() + row.top);
  const float log_sum = float(std::log(sum));
  for (int64_t i = 0; i < row.top; ++i) {
    row.ids[i] = id_of(found[size_t(i)]);
    row.top_logits[i] = row.logits[row.ids[i]];
    row.logprobs[i] = row.top_logits[i] - peak - log_sum;
  }
}

// What is found of one row; gives the border of its nucleus, if any.
float look_at(const Kernels& kernels, const Row& row, float temperature, float outside,
              float* sums) {
  const int64_t blocks = blocks_of(row.vocab);
  const Maxima maxima(kernels, row);
  const float peak = maxima.peak();
  kernels.block_sums(row.logits, row.vocab, peak, 1, sums);
  double sum = 0;
  for (int64_t block = 0; block < blocks; ++block) sum += double(sums[block]);
  if (!std::isfinite(sum)) {
    put_nothing(row);
    std::fill_n(sums, blocks, NONE);
    return NONE;
  }
  put_top(row, maxima, peak, sum);
  if (outside > 0) {
    const float border = nucleus(
        kernels, {row.logits, row.vocab, row.ids, row.top, temperature, outside}, sums);
    if (!std::isnan(border)) return border;
    kernels.block_sums(row.logits, row.vocab, peak, 1 / temperature, sums);
    return NONE;
  }
  if (temperature != 1)
    kernels.block_sums(row.logits, row.vocab, peak, 1 / temperature, sums);
  return NONE;
}

}  // namespace

TopLogits::TopLogits(const Node& node) : kernels_(kernels()), top_(node.integer("top", 0)) {
  if (top_ < 1) fail("top is " + std::to_string(top_) + ", expected 1 or more");
}

void TopLogits::run(const Run& run) const {
  Tensor logits = run.required(0, "logits"), index = run.required(1, "index"),
         temperatures = run.required(2, "temperatures");
  const std::optional<Tensor> outside = run.input(3);
  if (logits.shape.size() != 2 || logits.shape[1] < top_)
    fail("logits has the shape " + text_of(logits.shape) + ", expected [rows, " +
         std::to_string(top_) + " or more]");
  if (index.shape.size() != 1) fail("index has the shape " + text_of(index.shape));
  if (temperatures.shape != index.shape)
    fail("temperatures has the shape " + text_of(temperatures.shape) + ", expected " +
         text_of(index.shape));
  if (outside && outside->shape != index.shape)
    fail("outside has the shape " + text_of(outside->shape) + ", expected " + text_of(index.shape));
  const int64_t rows = logits.shape[0], vocab = logits.shape[1], count = index.size();
  for (int64_t i = 0; i < count; ++i) {
    int64_t row = index.as<int64_t>()[i];
    if (row < 0 || row >= rows)
      fail("index has " + std::to_string(row) + ", expected 0 to " + std::to_string(rows - 1));
    const float temperature = temperatures.as<float>()[i];
    if (!(temperature > 0 && std::isfinite(temperature) && std::isfinite(1 / temperature)))
      fail("temperatures has " + std::to_string(temperature) +
           ", expected numbers above 0 that have a finite inverse");
    const float share = outside ? outside->as<float>()[i] : 0;
    if (!(share >= 0 && share < 1))
      fail("outside has " + std::to_string(share) + ", expected numbers from 0 to below 1");
  }
  auto* ids = run.output<int64_t>(0, {count, top_});
  float *top_logits = run.output(1, {count, top_}), *logprobs = run.output(2, {count, top_});
  float *sums = run.output(3, {count, blocks_of(vocab)}), *borders = run.output(4, {count});
  if (outside && !borders) fail("outside is given, but there is no output for the borders");
  run.parallel(size_t(count), [&](size_t place) {
    const int64_t at = int64_t(place) * top_;
    Row row{logits.as<float>() + index.as<int64_t>()[place] * vocab, vocab,
            ids + at, top_logits + at, logprobs + at, top_};
    const float border = look_at(kernels_, row, temperatures.as<float>()[place],
                                 outside ? outside->as<float>()[place] : 0,
                                 sums + int64_t(place) * blocks_of(vocab));
    if (borders) borders[place] = border;
  });
}

}  // namespace gpt2onnx
