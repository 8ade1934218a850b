#include "top_logits.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gpt2onnx {
namespace {

constexpr float NONE = std::numeric_limits<float>::quiet_NaN();

struct Found {
  float logit;
  int64_t id;
  bool operator<(const Found& other) const {
    return logit > other.logit || (logit == other.logit && id < other.id);
  }
};

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

// Every logit that can be among the `top` largest, in any order: the top-th largest of all is at
// least that of the columns' maxima.
std::vector<Found> candidates(const Row& row, const Maxima& maxima) {
  const int64_t columns = maxima.count, column = maxima.column;
  float least = -std::numeric_limits<float>::infinity();
  if (columns > row.top) {
    auto* sorted = Scratch::of<float>(1, size_t(columns));
    std::copy(maxima.values, maxima.values + columns, sorted);
    std::nth_element(sorted, sorted + row.top - 1, sorted + columns, std::greater<float>());
    least = sorted[row.top - 1];
  }
  std::vector<Found> found;
  for (int64_t i = 0; i < columns; ++i) {
    if (maxima.values[i] < least) continue;
    const int64_t first = i / LANES * column * LANES + i % LANES;
    const int64_t end = std::min(row.vocab, first + column * LANES);
    for (int64_t id = first; id < end; id += LANES)
      if (row.logits[id] >= least) found.push_back({row.logits[id], id});
  }
  return found;
}

void put_nothing(const Row& row) {
  std::fill_n(row.ids, row.top, 0);
  std::fill_n(row.top_logits, row.top, NONE);
  std::fill_n(row.logprobs, row.top, NONE);
}

void put_top(const Row& row, const Maxima& maxima, float peak, double sum) {
  std::vector<Found> found = candidates(row, maxima);
  std::partial_sort(found.begin(), found.begin() + row.top, found.end());
  const float log_sum = float(std::log(sum));
  for (int64_t i = 0; i < row.top; ++i) {
    row.ids[i] = found[size_t(i)].id;
    row.top_logits[i] = found[size_t(i)].logit;
    row.logprobs[i] = row.top_logits[i] - peak - log_sum;
  }
}

void look_at(const Kernels& kernels, const Row& row, float temperature, float* sums) {
  const int64_t blocks = blocks_of(row.vocab);
  const Maxima maxima(kernels, row);
  const float peak = maxima.peak();
  kernels.block_sums(row.logits, row.vocab, peak, 1, sums);
  double sum = 0;
  for (int64_t block = 0; block < blocks; ++block) sum += double(sums[block]);
  if (!std::isfinite(sum)) {
    put_nothing(row);
    std::fill_n(sums, blocks, NONE);
    return;
  }
  put_top(row, maxima, peak, sum);
  if (temperature != 1)
    kernels.block_sums(row.logits, row.vocab, peak, 1 / temperature, sums);
}

}  // namespace

TopLogits::TopLogits(const Node& node) : kernels_(kernels()), top_(node.integer("top", 0)) {
  if (top_ < 1) fail("top is " + std::to_string(top_) + ", expected 1 or more");
}

void TopLogits::run(const Run& run) const {
  Tensor logits = run.required(0, "logits"), index = run.required(1, "index"),
         temperatures = run.required(2, "temperatures");
  if (logits.shape.size() != 2 || logits.shape[1] < top_)
    fail("logits has the shape " + text_of(logits.shape) + ", expected [rows, " +
         std::to_string(top_) + " or more]");
  if (index.shape.size() != 1) fail("index has the shape " + text_of(index.shape));
  if (temperatures.shape != index.shape)
    fail("temperatures has the shape " + text_of(temperatures.shape) + ", expected " +
         text_of(index.shape));
  const int64_t rows = logits.shape[0], vocab = logits.shape[1], count = index.size();
  for (int64_t i = 0; i < count; ++i) {
    int64_t row = index.as<int64_t>()[i];
    if (row < 0 || row >= rows)
      fail("index has " + std::to_string(row) + ", expected 0 to " + std::to_string(rows - 1));
    const float temperature = temperatures.as<float>()[i];
    if (!(temperature > 0 && std::isfinite(temperature) && std::isfinite(1 / temperature)))
      fail("temperatures has " + std::to_string(temperature) +
           ", expected numbers above 0 that have a finite inverse");
  }
  auto* ids = run.output<int64_t>(0, {count, top_});
  float *top_logits = run.output(1, {count, top_}), *logprobs = run.output(2, {count, top_});
  float* sums = run.output(3, {count, blocks_of(vocab)});
  run.parallel(size_t(count), [&](size_t place) {
    const int64_t at = int64_t(place) * top_;
    Row row{logits.as<float>() + index.as<int64_t>()[place] * vocab, vocab,
            ids + at, top_logits + at, logprobs + at, top_};
    look_at(kernels_, row, temperatures.as<float>()[place],
            sums + int64_t(place) * blocks_of(vocab));
  });
}

}  // namespace gpt2onnx
