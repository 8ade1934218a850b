// The kernels, compiled once for each processor over its thin layer (GPT2ONNX_LAYER).
//
// Nothing here may come out as a function shared between the processors' objects: no templates of
// the standard library, and everything in the processor's own namespace.
#include "kernels.h"

#include GPT2ONNX_LAYER


namespace gpt2onnx::GPT2ONNX_TARGET {
namespace {

#ifdef GPT2ONNX_UNROLL
#define UNROLL GPT2ONNX_UNROLL
#else
#define UNROLL _Pragma("GCC unroll 16")  // or GCC keeps accumulators in memory
#endif

#include "functions.h"

// The first `count` of 16 elements; zeros behind them.
template <class T>
inline F16 load_some(const T* p, int64_t count) {
  if (count >= LANES) return load(p);
  T buffer[LANES] = {};
  for (int64_t i = 0; i < count; ++i) buffer[i] = p[i];
  return load(buffer);
}

template <class T>
inline void store_some(T* p, int64_t count, F16 x) {
  if (count >= LANES) return store(p, x);
  T buffer[LANES];
  store(buffer, x);
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
}

// x with its lanes from `count` on 0.
inline F16 first(F16 x, int64_t count) {
  float buffer[LANES];
  store(buffer, x);
  return load_some(buffer, count);
}

#ifndef GPT2ONNX_OWN_FOLDS
// Of all 16 lanes, as a tree: of[0] `with` [8], and so on.
template <class With>
inline float folded(F16 x, const With& with) {
  float lanes[LANES];
  store(lanes, x);
  UNROLL for (int half = LANES / 2; half; half /= 2)
    UNROLL for (int i = 0; i < half; ++i) lanes[i] = with(lanes[i], lanes[i + half]);
  return lanes[0];
}

inline float total(F16 x) { return folded(x, [](float a, float b) { return a + b; }); }
inline float largest(F16 x) { return folded(x, [](float a, float b) { return a > b ? a : b; }); }
#endif

void normalize(const float* x, int64_t width, const float* gain, const float* bias, float epsilon,
               float* out) {
  F16 sum = set1(0.0f);
  for (int64_t i = 0; i < width; i += LANES) sum = sum + load_some(x + i, width - i);
  F16 mean = set1(total(sum) / float(width)), squares = set1(0.0f);
  for (int64_t i = 0; i < width; i += LANES) {
    F16 apart = load_some(x + i, width - i) - mean;
    if (width - i < LANES) apart = first(apart, width - i);
    squares = fma(apart, apart, squares);
  }
  F16 factor = set1(1.0f / __builtin_sqrtf(total(squares) / float(width) + epsilon));
  for (int64_t i = 0; i < width; i += LANES) {
    int64_t rest = width - i;
    F16 normal = (load_some(x + i, rest) - mean) * factor;
    store_some(out + i, rest, fma(normal, load_some(gain + i, rest), load_some(bias + i, rest)));
  }
}

// Calls each(i, x from i on) for 16 numbers of x [width] at a time, zeros behind them.
template <class Each>
inline void for_lanes(const float* x, int64_t width, const Each& each) {
  int64_t i = 0;
  for (; width - i >= LANES; i += LANES) each(i, load(x + i));
  if (i < width) each(i, load_some(x + i, width - i));
}

// The largest magnitude of each lane of x [width]; NaN where one is infinite or no number.
inline F16 magnitudes(const float* x, int64_t width) {
  F16 most = set1(0.0f), zero = set1(0.0f), poison = set1(0.0f);
  for_lanes(x, width, [&](int64_t, F16 some) {
    most = max(most, abs(some));
    poison = fma(some, zero, poison);
  });
  return most + poison;
}

// 16 numbers of each of 16 groups. Folded together, a group costs few instructions, and none waits
// for another as in a tree along one register. What is folded so is exact in any order.
struct Lanes {
  alignas(64) float of[LANES * LANES];

  explicit Lanes(int count) {
    for (int i = count; i < LANES; ++i) put(i, set1(0.0f));
  }
  void put(int group, F16 x) { store(of + group * LANES, x); }
  template <class With>
  F16 folded(const With& with) const {
    alignas(64) float turned[LANES * LANES];
    transpose16(of, LANES, turned, LANES);
    F16 all[4];
    UNROLL for (int i = 0; i < 4; ++i) all[i] = load(turned + i * LANES);
    UNROLL for (int i = 4; i < LANES; ++i) all[i % 4] = with(all[i % 4], load(turned + i * LANES));
    return with(with(all[0], all[1]), with(all[2], all[3]));
  }
  F16 totals() const { return folded([](F16 x, F16 y) { return x + y; }); }
  // NaN where one is.
  F16 largest() const {
    F16 zero = set1(0.0f);
    F16 most = folded([](F16 x, F16 y) { return max(x, y); });
    return most + folded([&](F16 x, F16 y) { return fma(x, zero, y * zero); });
  }
};

// Levels of nothing from behind x [width] on, up to `padded`.
inline void clear_behind(int64_t width, int64_t padded, Level* levels) {
  for (int64_t i = (width + LANES - 1) / LANES * LANES; i < padded; i += LANES)
    store(levels + i, set1(0.0f));
}

// Levels of x [width] times `factor`, and zeros up to `padded`; gives their sums.
template <int PLANES>
inline F16 put_levels(const float* x, int64_t width, int64_t padded, float factor, Level* levels,
                      int64_t plane) {
  F16 by = set1(factor), sum = set1(0.0f);
  for_lanes(x, width, [&](int64_t i, F16 some) {
    F16 level = nearest(some * by);
    sum = sum + level;  // whole numbers of less than 24 bits: exact
    if constexpr (PLANES == 2) {
      F16 high = nearest(level * set1(1 / 256.0f)), low = level - high * set1(256.0f);
      // Ties went to the even neighbour: a low byte of 128 belongs to the next high one.
      F16 over = if_less(set1(127.0f), low, set1(1.0f), set1(0.0f));
      store(levels + i, high + over);
      store(levels + plane + i, low - over * set1(256.0f));
    } else {
      store(levels + i, level);
    }
  });
  for (int part = 0; part < PLANES; ++part) clear_behind(width, padded, levels + part * plane);
  return sum;
}

// Levels of x [width] times `factor` and of what they leave, zeros up to `padded`; gives both sums.
struct Sums { F16 levels, rest; };
inline Sums put_both(const float* x, int64_t width, int64_t padded, float factor, Level* levels,
                     Level* rest) {
  const F16 by = set1(factor), finer = set1(2.0f * LEVELS8), zero = set1(0.0f);
  F16 sum = zero, rest_sum = zero;
  for_lanes(x, width, [&](int64_t i, F16 some) {
    F16 level = nearest(some * by), left = nearest(fma(some, by, zero - level) * finer);
    store(levels + i, level);
    store(rest + i, left);
    sum = sum + level;
    rest_sum = rest_sum + left;
  });
  clear_behind(width, padded, levels), clear_behind(width, padded, rest);
  return {sum, rest_sum};
}

// Sums of levels as whole numbers, the first `count`.
inline void put_sums(const Lanes& lanes, int count, int32_t* sums) {
  float totals[LANES];
  store(totals, lanes.totals());
  for (int i = 0; i < count; ++i) sums[i] = int32_t(totals[i]);
}

// Rounds x [width], 16 groups at a time; with `rest` also what that leaves, but not the groups that
// `rounded` has more.
template <int PLANES, bool SPLIT>
void round_by(const float* x, int64_t width, const Rounded& rounded, const Rounded* rest,
              int64_t row) {
  auto* levels = reinterpret_cast<Level*>(rounded.levels + row * rounded.row_bytes);
  auto* others = SPLIT ? reinterpret_cast<Level*>(rest->levels + row * rest->row_bytes) : nullptr;
  const int64_t groups = SPLIT ? rest->groups() : rounded.groups();
  const F16 limit = set1(float(rounded.bits == 8 ? LEVELS8 : LEVELS16)), zero = set1(0.0f);
  F16 most = zero;
  if (rounded.by_token) {
    F16 some = magnitudes(x, width);
    most = set1(largest(some) + total(some * zero));
  }
  for (int64_t from = 0; from < groups; from += LANES) {
    const int count = int(groups - from < LANES ? groups - from : LANES);
    Lanes lanes(count), rest_lanes(count);
    int64_t start[LANES], given[LANES];
    for (int i = 0; i < count; ++i) {
      start[i] = (from + i) * rounded.group;
      const int64_t left = width > start[i] ? width - start[i] : 0;
      const int64_t room = rounded.width(from + i);
      given[i] = left < room ? left : room;
      if (!rounded.by_token) lanes.put(i, magnitudes(x + start[i], given[i]));
    }
    if (!rounded.by_token) most = lanes.largest();
    // Scales too small for a float's full precision make zeros. Numbers that aren't finite have no
    // levels; their scale says so.
    const F16 least = set1(1e-30f), poison = most * zero;
    float factors[LANES];
    store(factors, if_less(least, most, limit / most, zero));
    const F16 step = if_less(least, most, most / limit, zero) + poison;
    const int64_t at = row * rounded.groups() + from;
    store_some(rounded.scales + at, count, step);
    for (int i = 0; i < count; ++i) {
      const int64_t room = rounded.width(from + i), some = factors[i] == 0.0f ? 0 : given[i];
      if constexpr (SPLIT) {
        const Sums sums = put_both(x + start[i], some, room, factors[i], levels + start[i],
                                   others + start[i]);
        lanes.put(i, sums.levels), rest_lanes.put(i, sums.rest);
      } else {
        lanes.put(i, put_levels<PLANES>(x + start[i], some, room, factors[i], levels + start[i],
                                        rounded.padded));
      }
    }
    put_sums(lanes, count, rounded.sums + at);
    if constexpr (SPLIT) {
      const int64_t rest_at = row * groups + from;
      store_some(rest->scales + rest_at, count, step * set1(1.0f / (2 * LEVELS8)));
      put_sums(rest_lanes, count, rest->sums + rest_at);
    }
  }
}

void round(const float* x, int64_t width, const Rounded& rounded, int64_t row) {
  auto by = rounded.bits == 16 && PLANES16 == 2 ? round_by<PLANES16, false> : round_by<1, false>;
  by(x, width, rounded, nullptr, row);
}

void split(const float* x, int64_t width, const Rounded& coarse, const Rounded& rest,
           int64_t row) {
  round_by<1, true>(x, width, coarse, &rest, row);
}

void pack(const uint8_t* levels, int64_t padded, int bits, uint8_t* panel) {
  for (int64_t k = 0; k < padded; k += STEP) {
    if (bits == 8) {
      uint8_t* to = panel + k * LANES;
      pack_step8(levels + k, padded, to);
      if (ZERO8 == 0)
        for (int i = 0; i < LANES * STEP; ++i) to[i] ^= 0x80;
    } else {
      if (k % (STEP * UNITS4) == 0) pack_units4(levels + k, padded, panel + k * LANES / 2);
    }
  }
}

void unpack(const uint8_t* panel, int lane, int64_t width, uint8_t* levels) {
  constexpr uint8_t FLIPPED = ZERO8 == 0 ? 0x80 : 0;
  for (int64_t k = 0; k < width; ++k)
    levels[k] = panel[(k / STEP * LANES + lane) * STEP + k % STEP] ^ FLIPPED;
}

// Has memory brought near; nothing happens where there is none.
inline void ask_for(const void* memory, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64)
    __builtin_prefetch(static_cast<const char*>(memory) + at, 0, LOCALITY);
}

// So many bytes ahead one row asks for weights, which the processor foresees as well.
constexpr int64_t NEAR = 1024;

// The weights of one step of the UNITS that are loaded at once.
template <int BITS>
inline Weights weights(const uint8_t* p, int unit) {
  if constexpr (BITS == 8) return weights8(p);
  else return weights4(p, unit);
}

template <int COUNT, int PANELS_, int BITS, int PLANES>
void product_tile(const Rounded& x, const Tile& tile, const Packed& w, int64_t panel, float* out) {
  constexpr int UNITS = BITS == 4 ? UNITS4 : 1, STEP_BYTES = LANES * STEP * UNITS * BITS / 8;
  constexpr int32_t ZERO = BITS == 8 ? ZERO8 : ZERO4;
  // Rows go in parts of those that one product takes; an odd row is its own neighbour.
  constexpr int PARTS = (COUNT + DOT_ROWS - 1) / DOT_ROWS;
  const int64_t row = tile.row, groups = x.groups();
  const int64_t panel_bytes = w.panel_bytes(), others = (PANELS_ - 1) * panel_bytes;
  const int64_t row_levels = x.row_bytes / int64_t(sizeof(Level));
  const Level* levels = reinterpret_cast<const Level*>(x.levels) + row * row_levels;
  const uint8_t *bytes = w.levels + panel * panel_bytes, *panel_end = bytes + panel_bytes;
  int wait = tile.number;  // groups before this tile asks for one
  // One row reads its panels in the order of memory, and asks for it line by line.
  constexpr bool ALONE = AHEAD && COUNT == 1 && PANELS_ == 1;
  F16 sums[COUNT][PANELS_];
  UNROLL for (int r = 0; r < COUNT; ++r)
    UNROLL for (int p = 0; p < PANELS_; ++p) sums[r][p] = set1(0.0f);
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t steps = x.width(group) / (STEP * UNITS);
    Dots dots[PLANES][PARTS][PANELS_];
    // Levels of weights are unsigned; what that adds is taken off beforehand.
    UNROLL for (int part = 0; part < PARTS; ++part) {
      int32_t off[DOT_ROWS] = {}, none[DOT_ROWS] = {};
      for (int r = 0; ZERO && r < DOT_ROWS && part * DOT_ROWS + r < COUNT; ++r)
        off[r] = -ZERO * x.sums[(row + part * DOT_ROWS + r) * groups + group];
      UNROLL for (int p = 0; p < PANELS_; ++p) {
        dots[0][part][p] = start(PLANES == 1 ? off : none);
        if constexpr (PLANES == 2) dots[1][part][p] = start(off);
      }
    }
    // A tile alone asks for what it comes to soon, in these panels or the next ones; several in
    // turns for what the next ones have, so that memory is read for as long as products are made.
    if (AHEAD && !ALONE && wait-- == 0) {
      wait = tile.of - 1;
      const int64_t near = bytes + AHEAD < panel_end ? AHEAD : AHEAD + others;
      const int64_t distance = tile.of == 1 ? near : panel_bytes + others;
      UNROLL for (int p = 0; p < PANELS_; ++p) {
        ask_for(bytes + p * panel_bytes + distance, steps * STEP_BYTES);
        ask_for(w.scales_of(panel + PANELS_ + p, group), 1);
      }
    }
    for (int64_t step = 0; step < steps; ++step) {
      if (ALONE) __builtin_prefetch(bytes + NEAR, 0, LOCALITY);
      UNROLL for (int unit = 0; unit < UNITS; ++unit) {
        Weights some[PANELS_];
        UNROLL for (int p = 0; p < PANELS_; ++p)
          some[p] = weights<BITS>(bytes + p * panel_bytes, unit);
        UNROLL for (int plane = 0; plane < PLANES; ++plane)
          UNROLL for (int part = 0; part < PARTS; ++part)
            UNROLL for (int p = 0; p < PANELS_; ++p)
              dots[plane][part][p] =
                  dot(dots[plane][part][p], some[p],
                      levels + part * DOT_ROWS * row_levels + plane * x.padded + unit * STEP,
                      (part + 1) * DOT_ROWS <= COUNT ? row_levels : 0);
      }
      bytes += STEP_BYTES;
      levels += STEP * UNITS;
    }
    UNROLL for (int p = 0; p < PANELS_; ++p) {
      F16 scale = load_scales(w, panel + p, group);
      UNROLL for (int r = 0; r < COUNT; ++r) {
        I16 whole = row_of(dots[PLANES - 1][r / DOT_ROWS][p], r % DOT_ROWS);
        if constexpr (PLANES == 2)
          whole = combine(row_of(dots[0][r / DOT_ROWS][p], r % DOT_ROWS), whole);
        F16 factor = set1(x.scales[(row + r) * groups + group]);
        sums[r][p] = fma(to_float(whole) * scale, factor, sums[r][p]);
      }
    }
  }
  UNROLL for (int r = 0; r < COUNT; ++r)
    UNROLL for (int p = 0; p < PANELS_; ++p) store(out + (r * PANELS_ + p) * LANES, sums[r][p]);
}

// Two planes take two registers an output.
template <int PANELS_, int BITS, int PLANES, int COUNT = ROWS / PLANES>
void product_rows(const Rounded& x, const Tile& tile, int rows, const Packed& w, int64_t panel,
                  float* out) {
  if (rows == COUNT) return product_tile<COUNT, PANELS_, BITS, PLANES>(x, tile, w, panel, out);
  if constexpr (COUNT > 1)
    product_rows<PANELS_, BITS, PLANES, COUNT - 1>(x, tile, rows, w, panel, out);
}

template <int BITS, int PLANES>
void product_bits(const Rounded& x, const Tile& tile, int rows, const Packed& w, int64_t panel,
                  int panels, float* out) {
  for (; rows == 1 && panels > 1; --panels, ++panel, out += LANES)
    product_rows<1, BITS, PLANES, 1>(x, tile, rows, w, panel, out);
  if (panels == 1) return product_rows<1, BITS, PLANES>(x, tile, rows, w, panel, out);
  if constexpr (PANELS > 1) product_rows<PANELS, BITS, PLANES>(x, tile, rows, w, panel, out);
}

void product(const Rounded& x, const Tile& tile, int rows, const Packed& w, int64_t panel,
             int panels, float* out) {
#ifdef GPT2ONNX_TILES
  if (rows >= TILES_FROM) return product_by_tiles(x, tile, rows, w, panel, panels, out);
#endif
  bool two = PLANES16 == 2 && x.bits == 16;
  auto by = w.bits == 8 ? (two ? product_bits<8, PLANES16> : product_bits<8, 1>)
                        : (two ? product_bits<4, PLANES16> : product_bits<4, 1>);
  const int most = two ? ROWS / PLANES16 : ROWS, tiles = (rows + most - 1) / most;
  for (int i = 0, done = 0; i < tiles; ++i, done += most) {
    const int some = rows - done < most ? rows - done : most;
    by(x, {tile.row + done, tile.number * tiles + i, tile.of * tiles}, some, w, panel, panels,
       out + done * panels * LANES);
  }
}

// So many tiles share what they ask memory for: with more rows, reading weights takes little of the
// time.
constexpr int SHARING = 8;

// COUNT rows times PANELS_ times 16 columns from `column` on.
template <int COUNT, int PANELS_, class T, bool WHOLE>
void float_tile(const FloatTile& t, const Tile& tile, int column) {
  const int left = WHOLE ? LANES : t.columns - column;
  const float* x = t.x + tile.row * t.x_stride;
  float* out = t.out + tile.row * t.out_stride + column;
  F16 sums[COUNT][PANELS_];
  UNROLL for (int r = 0; r < COUNT; ++r)
    UNROLL for (int p = 0; p < PANELS_; ++p)
      sums[r][p] = t.onward ? load_some(out + r * t.out_stride + p * LANES, left) : set1(0.0f);
  auto* w = static_cast<const T*>(t.w) + column;
  // One row alone is read at the memory's speed, otherwise the first tile asks for what comes. Few
  // tiles share that, so that memory is read for as long as products are made.
  const bool shared = t.followed && tile.of > 1 && tile.of <= SHARING;
  const bool asks = COUNT > 1 && AHEAD && (shared || tile.number == 0);
  const int64_t distance = shared ? t.inputs * t.w_stride * int64_t(sizeof(T)) : AHEAD;
  const int64_t every = shared ? tile.of : 1;
  int64_t next = asks ? tile.number : -1;
  // Of many rows three share a pointer: one for each is more than there are registers, and GCC would
  // make them if it saw where these lie.
  constexpr int SHARED = COUNT > 8 ? 3 : COUNT, POINTERS = (COUNT + SHARED - 1) / SHARED;
  const int64_t stride = t.x_stride;
  const float* rows[POINTERS];
  UNROLL for (int i = 0; i < POINTERS; ++i) {
    rows[i] = x + i * SHARED * stride;
    if constexpr (POINTERS > 1) asm("" : "+r"(rows[i]));
  }
  for (int64_t k = 0; k < t.inputs; ++k, w += t.w_stride) {
    if (k == next) {
      __builtin_prefetch(reinterpret_cast<const char*>(w) + distance, 0, 2);
      next += every;
    }
    F16 some[PANELS_];
    UNROLL for (int p = 0; p < PANELS_; ++p)
      some[p] = WHOLE ? load(w + p * LANES) : load_some(w + p * LANES, left);
    UNROLL for (int r = 0; r < COUNT; ++r)
      UNROLL for (int p = 0; p < PANELS_; ++p)
        sums[r][p] = fma(set1(rows[r / SHARED][r % SHARED * stride + k]), some[p], sums[r][p]);
  }
  UNROLL for (int r = 0; r < COUNT; ++r)
    UNROLL for (int p = 0; p < PANELS_; ++p)
      store_some(out + r * t.out_stride + p * LANES, left, sums[r][p]);
}

// `rows` of them in one tile.
template <class T, int COUNT = FLOAT_ROWS>
void float_rows(const FloatTile& t, const Tile& tile, int rows, int column) {
  if (rows == COUNT)
    return t.columns - column >= LANES ? float_tile<COUNT, 1, T, true>(t, tile, column)
                                       : float_tile<COUNT, 1, T, false>(t, tile, column);
  if constexpr (COUNT > 1) float_rows<T, COUNT - 1>(t, tile, rows, column);
}

// An addition waits for the one before it into the same sum, which few sums can't hide: so tiles
// have rows evenly, and one row alone takes four panels.
template <class T>
void float_columns(const FloatTile& t) {
  const int tiles = (t.rows + FLOAT_ROWS - 1) / FLOAT_ROWS;
  for (int column = 0; column < t.columns;) {
    if (t.rows == 1 && t.columns - column >= 4 * LANES) {
      float_tile<1, 4, T, true>(t, {0, 0, 1}, column);
      column += 4 * LANES;
      continue;
    }
    for (Tile tile{0, 0, tiles}; tile.number < tiles; ++tile.number) {
      const int left = tiles - tile.number, rows = (t.rows - tile.row + left - 1) / left;
      float_rows<T>(t, tile, rows, column);
      tile.row += rows;
    }
    column += LANES;
  }
}

void float_product(const FloatTile& t) {
  if (t.store == Store::float32) float_columns<float>(t);
  else if (t.store == Store::float16) float_columns<uint16_t>(t);
  else float_columns<int8_t>(t);
}

template <Activation KIND>
void finish_by(const float* tile, int64_t tile_stride, int rows, const Epilogue& e) {
  F16 bias = e.bias ? load_some(e.bias, e.columns) : set1(0.0f);
  for (int64_t r = 0; r < rows; ++r) {
    F16 value = activated<KIND>(load(tile + r * tile_stride) + bias);
    if (e.residual) value = value + load_some(e.residual + r * e.stride, e.columns);
    store_some(e.out + r * e.stride, e.columns, value);
  }
}

void finish(const float* tile, int64_t tile_stride, int rows, const Epilogue& e) {
  using Finish = void (*)(const float*, int64_t, int, const Epilogue&);
  static constexpr Finish BY[] = {
      finish_by<Activation::linear>, finish_by<Activation::gelu>,
      finish_by<Activation::gelu_tanh>, finish_by<Activation::gelu_10>,
      finish_by<Activation::laplace>, finish_by<Activation::leaky_relu>,
      finish_by<Activation::mish>, finish_by<Activation::quick_gelu>,
      finish_by<Activation::relu>, finish_by<Activation::relu2>, finish_by<Activation::relu6>,
      finish_by<Activation::sigmoid>, finish_by<Activation::silu>, finish_by<Activation::tanh>};
  BY[int(e.activation)](tile, tile_stride, rows, e);
}

// The elements from `i` on, up to 16, of `count` keys, as [16, 16] with zeros behind them.
template <class T>
inline void copy_keys(const T* keys, int64_t head_dim, int64_t i, int count, T* to) {
  const int64_t width = head_dim - i;
  for (int key = 0; key < LANES; ++key, to += LANES) {
    const T* from = keys + key * head_dim + i;
    if (key < count && width >= LANES) __builtin_memcpy(to, from, sizeof(T) * LANES);
    else for (int j = 0; j < LANES; ++j) to[j] = key < count && j < width ? from[j] : T(0);
  }
}

template <class T>
void transpose_of(const T* keys, int64_t head_dim, int count, float* out, int64_t stride) {
  int64_t whole = count == LANES ? head_dim / LANES * LANES : 0;
  // Keys are read across, which no processor foresees: the next ones are asked for in order.
  const T* next = keys + LANES * head_dim;
  const int64_t lines = LANES * LANES * int64_t(sizeof(T)) / 64;  // a part's
  for (int64_t i = 0; i < whole; i += LANES) {
    for (int64_t line = 0; line < lines; ++line, next += 64 / sizeof(T)) __builtin_prefetch(next);
    transpose16(keys + i, head_dim, out + i * stride, stride);
  }
  for (int64_t i = whole; i < head_dim; i += LANES) {
    T some[LANES * LANES];
    float turned[LANES * LANES];
    copy_keys(keys, head_dim, i, count, some);
    transpose16(some, LANES, turned, LANES);
    for (int64_t j = 0; j < LANES && i + j < head_dim; ++j)
      store(out + (i + j) * stride, load(turned + j * LANES));
  }
}

// Turned in registers, where they are enough: nothing is kept of it.
template <class T>
void scores_of(const float* query, const T* keys, int64_t head_dim, int count, float* out) {
  F16 sum = set1(0.0f);
  for (int64_t i = 0; i < head_dim; i += LANES) {
    float turned[LANES * LANES];
    if (count == LANES && head_dim - i >= LANES) {
      transpose16(keys + i, head_dim, turned, LANES);
      UNROLL for (int j = 0; j < LANES; ++j)
        sum = fma(set1(query[i + j]), load(turned + j * LANES), sum);
      continue;
    }
    T some[LANES * LANES];
    copy_keys(keys, head_dim, i, count, some);
    transpose16(some, LANES, turned, LANES);
    for (int64_t j = 0; j < LANES && i + j < head_dim; ++j)
      sum = fma(set1(query[i + j]), load(turned + j * LANES), sum);
  }
  store(out, sum);
}

// Calls each with keys or values as of their type.
template <class Each>
inline void of_store(const void* keys, Store store, const Each& each) {
  if (store == Store::float32) each(static_cast<const float*>(keys));
  else if (store == Store::float16) each(static_cast<const uint16_t*>(keys));
  else each(static_cast<const int8_t*>(keys));
}

void scores(const float* query, const void* keys, Store store, int64_t head_dim, int count,
            float* out) {
  of_store(keys, store, [&](auto* typed) { scores_of(query, typed, head_dim, count, out); });
}

void transpose(const void* keys, Store store, int64_t head_dim, int count, float* out,
               int64_t stride) {
  of_store(keys, store, [&](auto* typed) { transpose_of(typed, head_dim, count, out, stride); });
}

float exponentials(float* scores, int64_t length, float scale) {
  F16 factor = set1(scale), most = set1(-__builtin_inff()), sum = set1(0.0f);
  for (int64_t i = 0; i < length; i += LANES) {
    F16 some = load(scores + i) * factor;  // filled up to 16, but with anything
    store(scores + i, some);
    if (length - i < LANES) {
      for (int64_t j = length; j < i + LANES; ++j) scores[j] = -__builtin_inff();
      some = load(scores + i);
    }
    most = max(most, some);
  }
  F16 peak = set1(largest(most));
  constexpr int SOME = 2;
  int64_t i = 0;
  for (; length - i > (SOME - 1) * LANES; i += SOME * LANES) {
    F16 power[SOME];
    UNROLL for (int p = 0; p < SOME; ++p) power[p] = load(scores + i + p * LANES) - peak;
    powers(power);
    UNROLL for (int p = 0; p < SOME; ++p) {
      sum = sum + power[p];
      store(scores + i + p * LANES, power[p]);
    }
  }
  for (; i < length; i += LANES) {
    F16 power = exp(load(scores + i) - peak);
    sum = sum + power;
    store(scores + i, power);
  }
  return total(sum);
}

void scale(float* x, int64_t width, float factor, const float* steps, float* out) {
  F16 by = set1(factor);
  for (int64_t i = 0; i < width; i += LANES) {
    F16 value = load_some(x + i, width - i) * by;
    if (steps) value = value * load_some(steps + i, width - i);
    store_some(out + i, width - i, value);
  }
}

template <class T>
void put_as(const float* x, int64_t width, T* out) {
  for (int64_t i = 0; i < width; i += LANES)
    store_some(out + i, width - i, load_some(x + i, width - i));
}

void put(const float* x, int64_t width, Store kind, void* out) {
  if (kind == Store::float32) return put_as(x, width, static_cast<float*>(out));
  if (kind == Store::float16) return put_as(x, width, static_cast<uint16_t*>(out));
  for (int64_t i = 0; i < width; i += LANES) {
    F16 level = clip(nearest(load_some(x + i, width - i)), -128, 127);
    // What is no number becomes 0, as a whole number has to be something.
    level = if_less(set1(-129.0f), level, level, set1(0.0f));
    store_some(static_cast<int8_t*>(out) + i, width - i, level);
  }
}

void take(const void* x, int64_t width, Store kind, float* out) {
  of_store(x, kind, [&](auto* typed) {
    for (int64_t i = 0; i < width; i += LANES)
      store_some(out + i, width - i, load_some(typed + i, width - i));
  });
}

// Up to `count` numbers, and `rest` in the place of others.
inline F16 load_or(const float* p, int64_t count, float rest) {
  if (count >= LANES) return load(p);
  float buffer[LANES];
  for (int64_t i = 0; i < LANES; ++i) buffer[i] = i < count ? p[i] : rest;
  return load(buffer);
}

void maxima(const float* x, int64_t width, int64_t column, float* out) {
  const int64_t step = column * LANES;
  for (int64_t block = 0; block < width; block += step, out += LANES) {
    F16 most = set1(-__builtin_inff());
    for (int64_t i = block; i < block + step && i < width; i += LANES)
      most = max(most, load_or(x + i, width - i, -__builtin_inff()));
    store(out, most);
  }
}

void block_sums(const float* x, int64_t width, float peak, float factor, float* sums) {
  F16 top = set1(peak), by = set1(factor);
  for (int64_t block = 0; block < width; block += BLOCK) {
    F16 sum = set1(0.0f);
    for (int64_t i = block; i < block + BLOCK && i < width; i += LANES)
      sum = sum + exp((load_or(x + i, width - i, -__builtin_inff()) - top) * by);
    *sums++ = total(sum);
  }
}

void weigh(const float* x, int64_t width, float peak, float temperature, float* weights) {
  F16 by = set1(temperature), top = set1(peak) / by;
  for (int64_t i = 0; i < width; i += LANES)
    store_some(weights + i, width - i, exp(load_some(x + i, width - i) / by - top));
}

void sums_below(const float* x, const float* weights, int64_t width, float border, double* sums) {
  constexpr float ROUNDS = 1.5f * COARSE * 0x1p23f;  // what is added to it loses what is finer
  const F16 least = set1(border), none = set1(0.0f), rounds = set1(ROUNDS);
  for (int64_t block = 0; block < width; block += BLOCK) {
    F16 whole = none, rest = none;
    for (int64_t i = block; i < block + BLOCK && i < width; i += LANES) {
      const int64_t left = width - i;
      F16 weight = if_less(load_some(x + i, left), least, load_some(weights + i, left), none);
      F16 coarse = (weight + rounds) - rounds;
      whole = whole + coarse;
      rest = rest + (weight - coarse);
    }
    *sums++ = double(total(whole)) + double(total(rest));
  }
}

void between(const float* x, int64_t width, float low, float high, float* found) {
  const F16 from = set1(low), to = set1(high), none = set1(0.0f), one = set1(1.0f);
  for (int64_t group = 0; group < width; group += GROUP) {
    F16 some = none;
    for (int64_t i = group; i < group + GROUP && i < width; i += LANES) {
      F16 value = load_or(x + i, width - i, -__builtin_inff());
      some = max(some, if_less(value, from, none, if_less(value, to, one, none)));
    }
    *found++ = largest(some);
  }
}

// Steps of a round: what is loaded for it costs nothing beside them.
constexpr int DEPTH = 16;

// What lies there may be read or written here: a round's work isn't the last one's.
inline void touch(const void* memory) { asm volatile("" ::"r"(memory) : "memory"); }

int64_t multiply_rounded(int64_t rounds) {
  uint8_t bytes[PANELS][LANES * STEP] = {};
  Level levels[ROWS * STEP * DEPTH] = {};
  constexpr int PARTS = ROWS / DOT_ROWS;
  const int32_t none[DOT_ROWS] = {};
  Dots sums[PARTS][PANELS];
  UNROLL for (int part = 0; part < PARTS; ++part)
    UNROLL for (int p = 0; p < PANELS; ++p) sums[part][p] = start(none);
  for (int64_t round = 0; round < rounds; ++round) {
    touch(bytes), touch(levels);
    Weights some[PANELS];
    UNROLL for (int p = 0; p < PANELS; ++p) some[p] = weights8(bytes[p]);
    UNROLL for (int step = 0; step < DEPTH; ++step)
      UNROLL for (int part = 0; part < PARTS; ++part)
        UNROLL for (int p = 0; p < PANELS; ++p)
          sums[part][p] = dot(sums[part][p], some[p],
                              levels + (part * DOT_ROWS * DEPTH + step) * STEP, DEPTH * STEP);
  }
  float used[LANES];
  UNROLL for (int r = 0; r < ROWS; ++r)
    UNROLL for (int p = 0; p < PANELS; ++p) {
      store(used, to_float(row_of(sums[r / DOT_ROWS][p], r % DOT_ROWS)));
      touch(used);
    }
  return rounds * DEPTH * ROWS * PANELS * LANES * STEP;
}

int64_t multiply_floats(int64_t rounds) {
  float weights[LANES] = {}, x[FLOAT_ROWS * DEPTH] = {};
  F16 sums[FLOAT_ROWS];
  UNROLL for (int r = 0; r < FLOAT_ROWS; ++r) sums[r] = set1(0.0f);
  for (int64_t round = 0; round < rounds; ++round) {
    touch(weights), touch(x);
    F16 some = load(weights);
    UNROLL for (int step = 0; step < DEPTH; ++step)
      UNROLL for (int r = 0; r < FLOAT_ROWS; ++r)
        sums[r] = fma(set1(x[r * DEPTH + step]), some, sums[r]);
  }
  UNROLL for (int r = 0; r < FLOAT_ROWS; ++r) {
    store(weights, sums[r]);
    touch(weights);
  }
  return rounds * DEPTH * FLOAT_ROWS * LANES;
}

int64_t multiply(bool rounded, int64_t rounds) {
#ifdef GPT2ONNX_TILES
  if (rounded) return multiply_by_tiles(rounds);
#endif
  return rounded ? multiply_rounded(rounds) : multiply_floats(rounds);
}

#ifndef GPT2ONNX_TILES  // the layer's own for many rows
constexpr int TILE_ROWS = ROWS;
#endif

constexpr Kernels TABLE = {
    GPT2ONNX_NAME, STEP, PLANES16, int(sizeof(Level)), TILE_ROWS, PANELS, FLOAT_ROWS,
    normalize, round, split, pack, unpack, product, float_product, finish, transpose, scores,
    exponentials, scale, put, take, maxima, block_sums, weigh, sums_below, between, multiply,
};

}  // namespace
}  // namespace gpt2onnx::GPT2ONNX_TARGET

namespace gpt2onnx {
const Kernels* GPT2ONNX_TABLE() { return &GPT2ONNX_TARGET::TABLE; }
}  // namespace gpt2onnx
