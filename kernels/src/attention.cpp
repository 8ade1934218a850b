#include "attention.h"

#include <algorithm>
#include <cmath>

#include "stores.h"

namespace gpt2onnx {
namespace {

enum : size_t { QUERY, TURNED, SCORES, GATHERED, TAKEN };

// Queries of a part: so many share the keys' turning, and their scores fit the second-level cache.
constexpr int64_t QUERIES = 48;
// Values of so many keys stay in the first cache for all queries.
constexpr int64_t VALUES = 64;
constexpr int64_t FEW_TOKENS = 8;
// So many times 16 keys are asked for beforehand.
constexpr int64_t AHEAD = 4;

int64_t up(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

// Has the bytes from `start` to `end` brought into the second-level cache: the first one's misses
// are too few to read memory at its speed.
void ask_for(const uint8_t* memory, int64_t start, int64_t end) {
  for (int64_t at = start; at < end; at += 64) __builtin_prefetch(memory + at, 0, 2);
}

}  // namespace

// Neighbouring tokens of one row, and a head.
struct Attention::Part {
  int64_t token, count, head;
  int64_t first, end;  // all tokens of the row
};

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
  const float* query(int64_t token, int64_t head) const {
    return qkv + token * 3 * width() + head * head_dim;
  }
  // Bytes before a head's first slot.
  int64_t place(int64_t row, int64_t head, int64_t slot) const {
    return ((row * heads + head) * capacity + slot) * head_dim * width_of(store);
  }
  int64_t first_seeing(const Part& part, int64_t slot, int64_t row) const;
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
  const auto store = store_of(keys.type);
  if (!store) fail("keys and values have to be float32, float16 or int8");
  Task task{qkv.as<float>(), rows.as<int64_t>(), slots.as<int64_t>(),
            static_cast<uint8_t*>(keys.data), static_cast<uint8_t*>(values.data), seen,
            steps ? steps->as<float>() : nullptr, run.output(0, {tokens, width}),
            *store, tokens, heads_, capacity, head_dim};
  append(run, task);
  auto all = parts(task);
  run.parallel(all.size(), [&](size_t index) {
    attend(task, all[index], all[std::min(index + 1, all.size() - 1)]);
  });
}

// Puts all keys and values into the cache.
void Attention::append(const Run& run, const Task& task) const {
  auto put = [&](int64_t first, int64_t end) {
    for (int64_t head = 0; head < task.heads; ++head)
      for (int64_t token = first; token < end; ++token) {
        const float* k = task.qkv + (token * 3 + 1) * task.width() + head * task.head_dim;
        const int64_t place = task.place(task.rows[token], head, task.slots[token]);
        kernels_.put(k, task.head_dim, task.store, task.keys + place);
        kernels_.put(k + task.width(), task.head_dim, task.store, task.values + place);
      }
  };
  run.parallel(size_t((task.tokens + FEW_TOKENS - 1) / FEW_TOKENS), [&](size_t part) {
    int64_t first = int64_t(part) * FEW_TOKENS;
    put(first, std::min(first + FEW_TOKENS, task.tokens));
  });
}

// A head's parts follow each other, so that its keys and values stay in the second-level cache, the
// longest contexts first: no thread is left with one at the end. So do rows; but many tokens stay
// in order, half of them behind the other, with those threads that have had them.
std::vector<Attention::Part> Attention::parts(const Task& task) const {
  std::vector<Part> all;
  const int64_t middle = task.tokens > TASK_ROWS ? task.tokens / 2 : 0;
  int64_t first = 0, end;  // of a row's tokens
  auto add = [&](int64_t from, int64_t to) {
    if (from == to) return;
    const int64_t last = from + (to - from - 1) / QUERIES * QUERIES;
    for (int64_t head = 0; head < task.heads; ++head)
      for (int64_t token = last; token >= from; token -= QUERIES)
        all.push_back({token, std::min(QUERIES, to - token), head, first, end});
  };
  for (; first < task.tokens; first = end) {
    for (end = first + 1; end < task.tokens && task.rows[end] == task.rows[first];) ++end;
    const int64_t border = std::clamp(middle, first, end);
    add(first, border);
    add(border, end);
  }
  if (!middle)
    std::stable_sort(all.begin(), all.end(), [&](const Part& a, const Part& b) {
      return task.slots[a.end - 1] > task.slots[b.end - 1];
    });
  return all;
}

// `next` is the part that comes behind it, mostly on the same thread.
void Attention::attend(const Task& task, const Part& part, const Part& next) const {
  const int64_t head_dim = task.head_dim, width = task.width();
  const int64_t length = task.slots[part.token + part.count - 1] + 1;
  // An odd number of lines apart, or rows would share their places in the caches.
  const int64_t stride = up(length) | LANES;
  auto* scores = Scratch::of<float>(SCORES, size_t(part.count * stride));
  auto* gathered = Scratch::of<float>(GATHERED, size_t(part.count * head_dim));
  if (part.count == 1) score_one(task, part, next, length, scores);
  else score(task, part, length, scores, stride);
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
  gather(task, part, length, scores, stride, gathered);
  const float* steps = task.steps ? task.steps + part.head * head_dim : nullptr;
  for (int64_t row = 0; row < part.count; ++row)
    kernels_.scale(gathered + row * head_dim, head_dim, factors[row], steps,
                   task.out + (part.token + row) * width + part.head * head_dim);
}

// The first query of a part, from `row` on, that sees a slot.
int64_t Attention::Task::first_seeing(const Part& part, int64_t slot, int64_t row) const {
  while (slots[part.token + row] < slot) ++row;
  return row;
}

// A token's query times keys: scores [length, filled up to 16]. What it comes to soon is asked for,
// and the beginning of the next part: a short one would be over before its own keys came.
void Attention::score_one(const Task& task, const Part& part, const Part& next, int64_t length,
                          float* scores) const {
  const int64_t slot_bytes = task.head_dim * width_of(task.store);
  auto ask = [&](const uint8_t* memory, int64_t slot, int64_t end) {
    ask_for(memory, slot * slot_bytes, std::min(slot + LANES, end) * slot_bytes);
  };
  const int64_t place = task.place(task.rows[part.token], part.head, 0),
                next_place = task.place(task.rows[next.token], next.head, 0),
                next_length = task.slots[next.token] + 1;
  const uint8_t* keys = task.keys + place;
  const float* query = task.query(part.token, part.head);
  for (int64_t slot = 0; slot < length; slot += LANES) {
    ask(keys, slot + AHEAD * LANES, length);
    ask(task.values + place, slot + LANES, length);
    ask(task.keys + next_place, slot, std::min(AHEAD * LANES, next_length));
    ask(task.values + next_place, slot, std::min<int64_t>(LANES, next_length));
    kernels_.scores(query, keys + slot * slot_bytes, task.store, task.head_dim,
                    int(std::min<int64_t>(LANES, length - slot)), scores + slot);
  }
}

// Queries times keys: scores [count, stride], of each query at least those that it sees.
void Attention::score(const Task& task, const Part& part, int64_t length, float* scores,
                      int64_t stride) const {
  const int64_t head_dim = task.head_dim;
  auto* queries = Scratch::of<float>(QUERY, size_t(part.count * head_dim));
  for (int64_t row = 0; row < part.count; ++row)
    std::copy_n(task.query(part.token + row, part.head), head_dim, queries + row * head_dim);
  auto* turned = Scratch::of<float>(TURNED, size_t(head_dim * LANES));
  const int64_t place = task.place(task.rows[part.token], part.head, 0);
  const int64_t turn_bytes = LANES * head_dim * width_of(task.store),
                all = turn_bytes * length / LANES;
  const uint8_t *keys = task.keys + place, *values = task.values + place;
  for (int64_t slot = 0, at = 0, row = 0; slot < length; slot += LANES, at += turn_bytes) {
    // Values as well: memory is idle while keys are turned.
    ask_for(keys, at + AHEAD * turn_bytes, std::min(at + (AHEAD + 1) * turn_bytes, all));
    ask_for(values, at, std::min(at + turn_bytes, all));
    kernels_.transpose(keys + at, task.store, head_dim,
                       int(std::min<int64_t>(LANES, length - slot)), turned, LANES);
    row = task.first_seeing(part, slot, row);
    kernels_.float_product({queries + row * head_dim, head_dim, int(part.count - row), turned,
                            LANES, LANES, Store::float32, head_dim, scores + row * stride + slot,
                            stride, false});
  }
}

// Powers of the scores times values: gathered [count, head_dim].
void Attention::gather(const Task& task, const Part& part, int64_t length, const float* scores,
                       int64_t stride, float* gathered) const {
  const int64_t head_dim = task.head_dim, all_see = task.slots[part.token] + 1;
  const uint8_t* values = task.values + task.place(task.rows[part.token], part.head, 0);
  // Bytes become floats once for all tiles of queries; what is half a float costs no more itself.
  const bool take = task.store == Store::int8 && part.count > kernels_.float_rows;
  auto* taken = take ? Scratch::of<float>(TAKEN, size_t(VALUES * head_dim)) : nullptr;
  for (int64_t slot = 0, row = 0, some; slot < length; slot += some) {
    // What not all see goes by few, of which each sees most.
    some = part.count == 1 ? length : slot + VALUES <= all_see ? VALUES : LANES;
    const int64_t inputs = std::min(some, length - slot);
    const void* these = values + slot * head_dim * width_of(task.store);
    if (take) kernels_.take(these, inputs * head_dim, task.store, taken), these = taken;
    row = task.first_seeing(part, slot, row);
    kernels_.float_product({scores + row * stride + slot, stride, int(part.count - row), these,
                            head_dim, int(head_dim), take ? Store::float32 : task.store, inputs,
                            gathered + row * head_dim, head_dim, slot > 0});
  }
}

}  // namespace gpt2onnx
