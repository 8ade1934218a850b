#include "nucleus.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ort.h"

namespace gpt2onnx {
namespace {

constexpr float INFINITE = std::numeric_limits<float>::infinity();
constexpr float NONE = std::numeric_limits<float>::quiet_NaN();

// What a sum of weights may be apart from another program's, in units of 2 ** -24: 4 for that one's
// exp, 1.5 for this one's.
constexpr double UNIT = 0x1p-24, ROUNDING = 5.5 * UNIT;
// Beside that, of the total: weights too small for floats, and additions of doubles.
constexpr double TINY = 1e-9;

// Tokens among which the border is looked for one by one; more than most come of equal logits.
constexpr double FEW = 128;
constexpr size_t MOST = 4096;
constexpr int PASSES = 32;

// Some tokens of a row: their logits, and what they weigh.
struct Weighed {
  const float* logits;  // [count]
  const float* weights;
  int64_t count;

  int64_t blocks() const { return (count + BLOCK - 1) / BLOCK; }
};

// A logit, and what the tokens below it weigh.
struct Cut { float logit; double out; };

// Cuts between which the border is: the first has no more than the room below it, the second more.
struct Bracket { Cut low, high; };

struct Near {
  float logit, weight;
  bool operator<(const Near& other) const { return logit < other.logit; }
};

class Search {
 public:
  Search(const Kernels& kernels, const Asked& asked)
      : kernels_(kernels), asked_(asked), peak_(asked.logits[asked.top_ids[0]]) {
    auto* weights = Scratch::of<float>(WEIGHTS, size_t(asked.vocab));
    kernels.weigh(asked.logits, asked.vocab, peak_, asked.temperature, weights);
    all_ = {asked.logits, weights, asked.vocab};
    sums_ = Scratch::of<double>(SUMS, size_t(all_.blocks()));
    everything_ = Scratch::of<double>(EVERYTHING, size_t(all_.blocks()));
    total_ = below(all_, INFINITE);
    std::copy_n(sums_, all_.blocks(), everything_);
    doubt_ = (TINY + UNIT * asked.outside) * total_;  // the share is rounded, too
    for (int64_t block = 0; block < all_.blocks(); ++block)
      doubt_ += ROUNDINGS * UNIT * std::min(everything_[block], double(BLOCK * COARSE / 2));
    room_ = asked.outside * total_;
  }

  float border(float* sums) {
    const Bracket at = bracket();
    std::vector<Near> near;
    if (!collect(at, near)) return NONE;
    size_t place = 0;
    for (double out = at.low.out; place < near.size(); ++place)
      if ((out += near[place].weight) > room_) break;
    if (place == near.size()) return NONE;
    const float outer = at.low.out == 0 ? -INFINITE : std::nextafter(at.low.logit, -INFINITE),
                under = place ? near[place - 1].logit : outer, t = asked_.temperature;
    // Equals below it are too many to stay.
    return under / t < near[place].logit / t && divide(near[place], sums)
               ? near[place].logit : NONE;
  }

 private:
  enum { WEIGHTS = 1, SUMS, EVERYTHING, SAMPLE, SAMPLE_WEIGHTS, FOUND };  // scratch memory

  Cut cut(const Weighed& some, float logit) const { return {logit, below(some, logit)}; }

  // What the tokens below a logit weigh; the blocks' sums are left in sums_.
  double below(const Weighed& some, float logit) const {
    kernels_.sums_below(some.logits, some.weights, some.count, logit, sums_);
    double all = 0;
    for (int64_t block = 0; block < some.blocks(); ++block) all += sums_[block];
    return all;
  }

  double weight(float logit) const {
    return std::exp(double(logit - peak_) / double(asked_.temperature));
  }

  // Where the border is, with few tokens beside it, if all goes well.
  Bracket bracket() const {
    double top = 0;
    for (int64_t i = 0; i < asked_.top; ++i) top += double(all_.weights[asked_.top_ids[i]]);
    const float last = asked_.logits[asked_.top_ids[asked_.top - 1]];
    const Cut end{INFINITE, total_};
    if (total_ - top <= room_) return {cut(all_, last), end};  // it is among the largest
    return narrowed(all_, room_, guess(last), FEW);
  }

  // A bracket below the last of the largest, as narrow as a sample of the tokens allows.
  Bracket guess(float last) const {
    // All tokens below this together have no more than the room.
    const float least = float(peak_ + asked_.temperature * std::log(room_ / double(asked_.vocab)));
    const Weighed some = sample();
    const double room = room_ * double(some.count) / double(all_.count);
    const Bracket whole{cut(some, least), cut(some, last)};
    const float middle = narrowed(some, room, whole, 4).high.logit;
    // Of the room, three deviations of what a sample has of it.
    const double apart = 3 * std::sqrt(weight(middle) / room);
    if (apart < 0.9) {
      const Cut low = cut(all_, narrowed(some, room * (1 - apart), whole, 4).low.logit),
                high = cut(all_, narrowed(some, room * (1 + apart), whole, 4).high.logit);
      if (low.out <= room_ && room_ < high.out) return {low, high};
    }
    return {cut(all_, least), cut(all_, last)};
  }

  // LANES of each BLOCK.
  Weighed sample() const {
    const int64_t count = all_.count / BLOCK * LANES;
    auto *logits = Scratch::of<float>(SAMPLE, size_t(count)),
         *weights = Scratch::of<float>(SAMPLE_WEIGHTS, size_t(count));
    for (int64_t i = 0; i < count; i += LANES) {
      std::copy_n(all_.logits + i * COLUMN, LANES, logits + i);
      std::copy_n(all_.weights + i * COLUMN, LANES, weights + i);
    }
    return {logits, weights, count};
  }

  // The bracket with about `few` tokens in it: by false position on the logarithm of what is below,
  // with Illinois' halving of an end that stays.
  Bracket narrowed(const Weighed& some, double room, Bracket at, double few) const {
    auto height = [&](const Cut& at) { return std::log(std::max(at.out, TINY * room) / room); };
    double low = height(at.low), high = height(at.high);
    int side = 0;
    for (int pass = 0; pass < PASSES; ++pass) {
      const float first = at.low.logit, last = at.high.logit;
      if (at.high.out - at.low.out <= few * weight(first)) break;
      const Cut middle = cut(some, float(first - (last - first) * low / (high - low)));
      if (!(first < middle.logit && middle.logit < last)) break;
      if (middle.out <= room) {
        at.low = middle, low = height(middle);
        if (side < 0) high /= 2;
        side = -1;
      } else {
        at.high = middle, high = height(middle);
        if (side > 0) low /= 2;
        side = 1;
      }
    }
    return at;
  }

  // The tokens of a bracket, in ascending order; false where they are too many. Equals of the last
  // of the largest may be missing: then what is below a border isn't what they say.
  bool collect(Bracket at, std::vector<Near>& near) const {
    if (at.high.logit == INFINITE) {  // the largest, which were found before
      for (int64_t i = asked_.top - 1; i >= 0; --i)
        near.push_back({all_.logits[asked_.top_ids[i]], all_.weights[asked_.top_ids[i]]});
      return true;
    }
    auto* found = Scratch::of<float>(FOUND, size_t((all_.count + GROUP - 1) / GROUP));
    kernels_.between(all_.logits, all_.count, at.low.logit, at.high.logit, found);
    for (int64_t first = 0; first < all_.count && near.size() <= MOST; first += GROUP) {
      if (found[first / GROUP] == 0) continue;
      for (int64_t id = first; id < std::min(first + GROUP, all_.count); ++id)
        if (all_.logits[id] >= at.low.logit && all_.logits[id] < at.high.logit)
          near.push_back({all_.logits[id], all_.weights[id]});
    }
    if (near.size() > MOST) return false;
    std::sort(near.begin(), near.end());
    return true;
  }

  // Writes the sums of what is not below the border; false where others' rounding could move it.
  bool divide(const Near& border, float* sums) const {
    const double out = below(all_, border.logit), in = total_ - out;
    for (int64_t block = 0; block < all_.blocks(); ++block)
      sums[block] = float(everything_[block] - sums_[block]);
    const double outside = asked_.outside;
    return is_more(outside * in, (1 - outside) * out) &&
           is_more((1 - outside) * (out + border.weight), outside * (in - border.weight));
  }

  bool is_more(double more, double less) const {
    return more * (1 - ROUNDING) > less * (1 + ROUNDING) + doubt_;
  }

  const Kernels& kernels_;
  const Asked& asked_;
  const float peak_;
  Weighed all_;
  double *sums_, *everything_;  // [blocks]
  double total_, room_, doubt_;
};

}  // namespace

float nucleus(const Kernels& kernels, const Asked& asked, float* sums) {
  return Search(kernels, asked).border(sums);
}

}  // namespace gpt2onnx
