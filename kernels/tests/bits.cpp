// Runs every kernel of one table (GPT2ONNX_TABLE) on the same numbers, and prints a checksum of each
// result: all tables, on all processors, have to print the same lines.
//
// Stands alone, without ONNX Runtime, so that it runs under an emulator as well (tests/emulated).
#include <cstdio>
#include <cstring>
#include <vector>

#include "kernels.h"

using namespace gpt2onnx;

namespace {

uint32_t state;

float number() {
  state = state * 1664525u + 1013904223u;
  return float(int32_t(state >> 8) - (1 << 23)) / float(1 << 22);
}

std::vector<float> numbers(size_t count) {
  std::vector<float> all(count);
  for (float& each : all) each = number();
  return all;
}

template <class T>
unsigned long long checksum(const T* values, size_t count) {
  unsigned long long sum = 1469598103934665603ull;
  auto* bytes = reinterpret_cast<const uint8_t*>(values);
  for (size_t i = 0; i < count * sizeof(T); ++i) sum = (sum ^ bytes[i]) * 1099511628211ull;
  return sum;
}

template <class T>
void tell(const char* what, const std::vector<T>& values) {
  std::printf("%s %016llx\n", what, checksum(values.data(), values.size()));
}

// All rows of a product, in tiles of `most` of them, as even as can be.
std::vector<float> product(const Kernels& k, const Rounded& x, int64_t rows, const Packed& w,
                           int most) {
  std::vector<float> out(size_t(rows * w.panels * 16));
  for (int64_t panel = 0; panel < w.panels;) {
    int some = w.panels - panel >= k.panels ? k.panels : 1;
    const int tiles = int((rows + most - 1) / most);
    int64_t row = 0;
    for (int number = 0, count; number < tiles; ++number, row += count) {
      count = int((rows - row + tiles - number - 1) / (tiles - number));
      std::vector<float> tile(size_t(count * some * 16));
      k.product(x, {row, number, tiles}, count, w, panel, some, tile.data());
      for (int r = 0; r < count; ++r)
        std::memcpy(out.data() + ((row + r) * w.panels + panel) * 16, tile.data() + r * some * 16,
                    size_t(some) * 16 * sizeof(float));
    }
    panel += some;
  }
  return out;
}

void products(const Kernels& k, int64_t group, int bits, int x_bits, bool by_token,
              bool by_column) {
  constexpr int64_t WIDTH = 150, ROWS = 33, PANELS = 3;
  const int64_t padded = (WIDTH + group - 1) / group * group;
  Rounded x{padded, group, x_bits, by_token, 0, nullptr, nullptr, nullptr};
  x.row_bytes = padded * k.level_bytes * (x_bits == 16 ? k.planes16 : 1);
  std::vector<uint8_t> levels(size_t(ROWS * x.row_bytes));
  std::vector<float> scales(size_t(ROWS * x.groups()));
  std::vector<int32_t> sums(size_t(ROWS * x.groups()));
  x.levels = levels.data(), x.scales = scales.data(), x.sums = sums.data();
  auto rows = numbers(size_t(ROWS * WIDTH));
  for (int64_t row = 0; row < ROWS; ++row) k.round(rows.data() + row * WIDTH, WIDTH, x, row);
  tell("round.scales", scales);
  tell("round.sums", sums);
  Packed w{padded, group, PANELS, bits, by_column, nullptr, nullptr, 32};
  std::vector<uint8_t> packed(size_t(PANELS * w.panel_bytes()));
  for (int64_t panel = 0; panel < PANELS; ++panel) {
    std::vector<uint8_t> plain(size_t(16 * padded));
    for (uint8_t& each : plain)
      each = uint8_t(int(number() * 64 + 128) & (bits == 8 ? 255 : 15));
    k.pack(plain.data(), padded, bits, packed.data() + panel * w.panel_bytes());
    if (bits == 8) {
      std::vector<uint8_t> back(plain.size());
      for (int lane = 0; lane < 16; ++lane)
        k.unpack(packed.data() + panel * w.panel_bytes(), lane, padded, back.data() + lane * padded);
      tell(back == plain ? "unpacked" : "unpacked to others", back);
    }
  }
  auto w_scales = numbers(size_t(PANELS * 16 * (by_column ? 1 : w.groups())));
  w.levels = packed.data(), w.scales = w_scales.data();
  tell("product", product(k, x, ROWS, w, k.rows));
  tell("product of few", product(k, x, 13, w, k.rows < 3 ? k.rows : 3));
  std::vector<uint16_t> halves(w_scales.size());
  k.put(w_scales.data(), int64_t(w_scales.size()), Store::float16, halves.data());
  w.scales = halves.data(), w.scale_bits = 16;
  tell("product of halves", product(k, x, 17, w, k.rows));  // of which 16 are a full tile's
}

// What rounding leaves, rounded as well, and a product whose last group is shorter.
void corrected(const Kernels& k, int64_t group, int bits) {
  constexpr int64_t WIDTH = 150, ROWS = 13, PANELS = 3, TAIL = 16;
  const int64_t padded = (WIDTH + group - 1) / group * group;
  auto room = [&](int64_t inputs, std::vector<uint8_t>& levels, std::vector<float>& scales,
                  std::vector<int32_t>& sums) {
    Rounded x{inputs, group, 8, false, inputs * k.level_bytes, nullptr, nullptr, nullptr};
    levels.resize(size_t(ROWS * x.row_bytes));
    scales.resize(size_t(ROWS * x.groups())), sums.resize(scales.size());
    x.levels = levels.data(), x.scales = scales.data(), x.sums = sums.data();
    return x;
  };
  std::vector<uint8_t> levels, rest_levels;
  std::vector<float> scales, rest_scales;
  std::vector<int32_t> sums, rest_sums;
  Rounded x = room(padded + TAIL, levels, scales, sums),
          rest = room(padded, rest_levels, rest_scales, rest_sums);
  auto rows = numbers(size_t(ROWS * WIDTH)), tails = numbers(size_t(ROWS * TAIL));
  for (int64_t row = 0; row < ROWS; ++row) {
    k.split(rows.data() + row * WIDTH, WIDTH, x, rest, row);
    const int64_t last = (row + 1) * x.groups() - 1;
    Rounded tail{TAIL, group, 8, false, 0, x.levels + row * x.row_bytes + padded * k.level_bytes,
                 x.scales + last, x.sums + last};
    k.round(tails.data() + row * TAIL, TAIL, tail, 0);
  }
  tell("split.scales", scales);
  tell("split.sums", sums);
  tell("split.rest.scales", rest_scales);
  tell("split.rest.sums", rest_sums);
  for (const Rounded& each : {x, rest}) {
    Packed w{each.padded, group, PANELS, bits, false, nullptr, nullptr, 32};
    std::vector<uint8_t> plain(size_t(16 * each.padded)), packed(size_t(PANELS * w.panel_bytes()));
    for (int64_t panel = 0; panel < PANELS; ++panel) {
      for (uint8_t& level : plain)
        level = uint8_t(int(number() * 64 + 128) & (bits == 8 ? 255 : 15));
      k.pack(plain.data(), each.padded, bits, packed.data() + panel * w.panel_bytes());
    }
    auto w_scales = numbers(size_t(PANELS * 16 * w.groups()));
    w.levels = packed.data(), w.scales = w_scales.data();
    tell("product of split", product(k, each, ROWS, w, k.rows));
    tell("product of split, few", product(k, each, ROWS, w, 1));
  }
}

void floats(const Kernels& k, Store store, int head_dim) {
  constexpr int ROWS = 17, KEYS = 70;
  const int64_t width = store == Store::float32 ? 4 : store == Store::float16 ? 2 : 1;
  auto q = numbers(size_t(ROWS * head_dim)), values = numbers(size_t(KEYS * head_dim));
  if (store == Store::int8) for (float& each : values) each *= 60;
  std::vector<uint8_t> cache(size_t(KEYS * head_dim * width));
  for (int key = 0; key < KEYS; ++key)
    k.put(values.data() + key * head_dim, head_dim, store, cache.data() + key * head_dim * width);
  tell("put", cache);
  std::vector<float> taken(values.size());
  k.take(cache.data(), int64_t(taken.size()), store, taken.data());
  tell("take", taken);
  std::vector<float> turned(size_t(head_dim * 80)), scores(ROWS * 80), out(size_t(ROWS * head_dim));
  for (int key = 0; key < KEYS; key += 16)
    k.transpose(cache.data() + key * head_dim * width, store, head_dim,
                KEYS - key < 16 ? KEYS - key : 16, turned.data() + key, 80);
  tell("transpose", turned);
  for (int key = 0; key < KEYS; key += 16)
    k.scores(q.data(), cache.data() + key * head_dim * width, store, head_dim,
             KEYS - key < 16 ? KEYS - key : 16, scores.data() + key);
  scores.resize(80);
  tell("scores", scores);
  scores.resize(ROWS * 80);
  for (int rows : {ROWS, 1}) {
    k.float_product({q.data(), head_dim, rows, turned.data(), 80, 80, Store::float32, head_dim,
                     scores.data(), 80, false});
    std::vector<float> sums;
    for (int row = 0; row < rows; ++row)
      sums.push_back(k.exponentials(scores.data() + row * 80, KEYS - row, 0.11f));
    tell("exponentials", scores);
    tell("exponentials.sums", sums);
    k.float_product({scores.data(), 80, rows, cache.data(), head_dim, head_dim, store, KEYS,
                     out.data(), head_dim, false});
    k.scale(out.data(), head_dim, 1 / sums[0], q.data(), out.data());
    tell("float_product", out);
    // In two parts, of which the second goes on from the first.
    const int64_t half = head_dim / 2;
    for (int64_t from : {int64_t(0), half})
      k.float_product({q.data() + from, head_dim, rows, turned.data() + from * 80, 80, 80,
                       Store::float32, from ? head_dim - half : half, scores.data(), 80, from > 0,
                       true});
    tell("float_product.onward", scores);
  }
}

void rows(const Kernels& k, int64_t width) {
  auto x = numbers(size_t(width)), gain = numbers(size_t(width)),
       bias = numbers(size_t(width + 16));
  std::vector<float> out(static_cast<size_t>(width));
  k.normalize(x.data(), width, gain.data(), bias.data(), 1e-5f, out.data());
  tell("normalize", out);
  for (int kind = 0; kind <= int(Activation::tanh); ++kind)
    for (float factor : {0.1f, 1.0f, 30.0f}) {
      auto tile = numbers(64);
      for (float& each : tile) each *= factor;
      std::vector<float> done(64, 0.0f);
      k.finish(tile.data(), 16, 4,
               {bias.data(), Activation(kind), tile.data(), done.data(), 16, 13});
      tell("finish", done);
    }
}

void logits(const Kernels& k, int64_t width) {
  auto x = numbers(size_t(width));
  const size_t blocks = size_t((width + BLOCK - 1) / BLOCK);
  std::vector<float> maxima(blocks * LANES), sums(blocks);
  k.maxima(x.data(), width, COLUMN, maxima.data());
  tell("maxima", maxima);
  for (float factor : {1.0f, 0.3f, 20.0f}) {
    k.block_sums(x.data(), width, 1.5f, factor, sums.data());
    tell("block_sums", sums);
  }
  std::vector<float> weights(static_cast<size_t>(width));
  std::vector<double> precise(blocks);
  for (float temperature : {1.0f, 0.3f}) {
    k.weigh(x.data(), width, 1.5f, temperature, weights.data());
    tell("weigh", weights);
    k.sums_below(x.data(), weights.data(), width, 0.2f, precise.data());
    tell("sums_below", precise);
    k.between(x.data(), width, 0.2f, 0.21f, maxima.data());
    tell("between", maxima);
  }
}

}  // namespace

int main() {
  const Kernels& k = *GPT2ONNX_TABLE();
  state = 1;
  for (int64_t group : {32, 16, 96, 256})
    for (int bits : {8, 4})
      for (int x_bits : {8, 16})
        for (bool by_token : {false, true})
          for (bool by_column : {false, true})
            products(k, group, bits, x_bits, by_token, by_column);
  for (int64_t group : {16, 32, 64})
    for (int bits : {8, 4}) corrected(k, group, bits);
  for (Store store : {Store::float32, Store::float16, Store::int8})
    for (int head_dim : {8, 20, 64, 80}) floats(k, store, head_dim);
  for (int64_t width : {5, 16, 100, 768}) rows(k, width);
  for (int64_t width : {1, 255, 256, 1003}) logits(k, width);
}
