#include "attention.h"

#include <algorithm>
#include <cmath>

namespace gpt2onnx {
namespace {

enum : size_t { TURNED, SCORES, GATHERED };

// Queries of a part: so many share the keys' turning.
constexpr int64_t QUERIES = 32;
// Keys that are turned at once.
constexpr int64_t TURN = 64;
constexpr int64_t FEW_TOKENS = 8;

int64_t up(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

int64_t width_of(Store store) {
  return store == Store::float32 ? 4 : store == Store::float16 ? 2 : 1;
}

Store store_of(Element type) {
  if (type == Element::float32) return Store::float32;
  if (type == Element::float16) return Store::float16;
  if (type == Element::int8) return Store::int8;
  fail("keys and values have to be float32, float16 or int8");
}

}  // namespace

// A run's inputs, checked.
struct Attention::Task {
  const float* qkv;
  const int64_t* rows;
  const int64_t* slots;
  uint8_t* keys;
  uint8_t* values;
  const bool* attention_mask;  // or null
  const float* steps;
  float* out;
  Store store;
  int64_t tokens, heads, capacity, head_dim;

  int64_t width() const { return heads * head_dim; }
  // Bytes before a head's first slot.
  int64_t place(int64_t row, int64_t head, int64_t slot) const {
    return ((row * heads + head) * capacity + slot) * head_dim * width_of(store);
  }
};

// Neighbouring tokens of one row, and a head.
struct Attention::Part {
  int64_t token, count, head;
  int64_t first, end;  // all tokens of the row
};

Attention::Attention(const Node& node)
    : kernels_(kernels()), heads_(node.integer("heads", 0)), scale_(node.number("scale", 1.0f)) {
  if (heads_ < 1) fail("heads is " + std::to_string(heads_) + ", expected 1 or more");
}

void Attention::run(const Run& run) const {
  Tensor qkv = run.required(0, "qkv"), rows = run.required(1, "rows"),
         slots = run.required(2, "slots"), keys = run.required(3, "keys"),
         values = run.required(4, "values");
  auto attention_mask = run.input(5), steps = run.input(6);
  if (keys.shape.size() != 4 || keys.shape[1] != heads_ || keys.shape != values.shape)
    fail("keys and values have the shapes " + text_of(keys.shape) + " and " +
         text_of(values.shape) + ", expected [rows, " + std::to_string(heads_) +
         ", capacity, head_dim] of both");
  if (keys.type != values.type) fail("keys and values have to be of one type");
  const int64_t head_dim = keys.shape[3], width = heads_ * head_dim, capacity = keys.shape[2];
  if (head_dim < 1) fail("head_dim is 0");
  if (qkv.shape.size() != 2 || qkv.shape[1] != 3 * width)
    fail("qkv has the shape " + text_of(qkv.shape) + ", expected [tokens, " +
         std::to_string(3 * width) + "]");
  const int64_t tokens = qkv.shape[0];
  for (const Tensor* each : {&rows, &slots})
    if (each->shape != Shape{tokens})
      fail("rows and slots have the shapes " + text_of(rows.shape) + " and " +
           text_of(slots.shape) + ", expected [" + std::to_string(tokens) + "] of both");
  std::vector<bool> met(size_t(std::max<int64_t>(keys.shape[0], 0)));
  for (int64_t i = 0; i < tokens; ++i) {
    int64_t row = rows.as<int64_t>()[i], slot = slots.as<int64_t>()[i];
    if (row < 0 || row >= keys.shape[0] || slot < 0 || slot >= capacity)
      fail("a token is for row " + std::to_string(row) + " and slot " + std::to_string(slot) +
           ", the cache has the shape " + text_of(keys.shape));
    if (i && rows.as<int64_t>()[i - 1] == row) {
      if (slots.as<int64_t>()[i - 1] >= slot) fail("the slots of a row have to ascend");
    } else {
      if (met[size_t(row)]) fail("the tokens of a row have to stand together");
      met[size_t(row)] = true;
    }
  }
  const bool* seen = nullptr;
  if (attention_mask && attention_mask->size() != 0) {
    if (attention_mask->shape != Shape{tokens, tokens})
      fail("attention_mask has the shape " + text_of(attention_mask->shape) + ", expected [" +
           std::to_string(tokens) + ", " + std::to_string(tokens) + "] or nothing");
    seen = attention_mask->as<bool>();
  }
  if (steps && steps->shape != Shape{width})
    fail("value_steps has the shape " + text_of(steps->shape) + ", expected [" +
         std::to_string(width) + "]");
  Task task{qkv.as<float>(), rows.as<int64_t>(), slots.as<int64_t>(),
            static_cast<uint8_t*>(keys.data), static_cast<uint8_t*>(values.data), seen,
            steps ? steps->as<float>() : nullptr, run.output(0, {tokens, width}),
            store_of(keys.type), tokens, heads_, capacity, head_dim};
  append(run, task);
  auto all = parts(task);
  run.parallel(all.size(), [&](size_t index) { attend(task, all[index]); });
}

// Puts all keys and values into the cache.
void Attention::append(const Run& run, const Task& task) const {
  auto put = [&](int64_t token) {
    const float* key = task.qkv + token * 3 * task.width() + task.width();
    for (int64_t head = 0; head < task.heads; ++head) {
      int64_t place = task.place(task.rows[token], head, task.slots[token]);
      const float* k = key + head * task.head_dim;
      kernels_.put(k, task.head_dim, task.store, task.keys + place);
      kernels_.put(k + task.width(), task.head_dim, task.store, task.values + place);
    }
  };
  if (task.tokens <= FEW_TOKENS) {
    for (int64_t token = 0; token < task.tokens; ++token) put(token);
    return;
  }
  run.parallel(size_t(task.tokens), [&](size_t token) { put(int64_t(token)); });
}

// The longest contexts first, so that no thread is left with one at the end.
std::vector<Attention::Part> Attention::parts(const Task& task) const {
  std::vector<Part> all;
  for (int64_t first = 0, end; first < task.tokens; first = end) {
    for (end = first + 1; end < task.tokens && task.rows[end] == task.rows[first];) ++end;
    for (int64_t token = first; token < end; token += QUERIES)
      for (int64_t head = 0; head < task.heads; ++head)
        all.push_back({token, std::min(QUERIES, end - token), head, first, end});
  }
  std::stable_sort(all.begin(), all.end(), [&](const Part& a, const Part& b) {
    return task.slots[a.token + a.count - 1] > task.slots[b.token + b.count - 1];
  });
  return all;
}

void Attention::attend(const Task& task, const Part& part) const {
  const int64_t head_dim = task.head_dim, width = task.width();
  const int64_t length = task.slots[part.token + part.count - 1] + 1, stride = up(length);
  const int64_t base = task.place(task.rows[part.token], part.head, 0);
  auto* turned = Scratch::of<float>(TURNED, size_t(head_dim * TURN));
  auto* scores = Scratch::of<float>(SCORES, size_t(part.count * stride));
  auto* gathered = Scratch::of<float>(GATHERED, size_t(part.count * head_dim));
  const float* queries = task.qkv + part.token * 3 * width + part.head * head_dim;

  for (int64_t slot = 0; slot < length; slot += TURN) {
    const int64_t some = std::min(TURN, stride - slot);
    for (int64_t key = slot; key < slot + some; key += LANES)
      kernels_.transpose(task.keys + base + key * head_dim * width_of(task.store), task.store,
                         head_dim, int(std::min<int64_t>(LANES, length - key)),
                         turned + key - slot, TURN);
    kernels_.float_product({queries, 3 * width, int(part.count), turned, TURN, int(some),
                            Store::float32, head_dim, scores + slot, stride, false});
  }
  float factors[QUERIES];
  for (int64_t row = 0; row < part.count; ++row) {
    float* mine = scores + row * stride;
    const int64_t token = part.token + row, own = task.slots[token] + 1;
    if (task.attention_mask)
      for (int64_t other = part.first; other < part.end && task.slots[other] < own; ++other)
        if (!task.attention_mask[token * task.tokens + other]) mine[task.slots[other]] = -INFINITY;
    factors[row] = 1.0f / kernels_.exponentials(mine, own, scale_);
    std::fill(mine + up(own), mine + stride, 0.0f);
  }
  const uint8_t* values = task.values + base;
  kernels_.float_product({scores, stride, int(part.count), values, head_dim, int(head_dim),
                          task.store, length, gathered, head_dim, false});
  const float* steps = task.steps ? task.steps + part.head * head_dim : nullptr;
  for (int64_t row = 0; row < part.count; ++row)
    kernels_.scale(gathered + row * head_dim, head_dim, factors[row], steps,
                   task.out + (part.token + row) * width + part.head * head_dim);
}

}  // namespace gpt2onnx
