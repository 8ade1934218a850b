// Logits in, a token out: greedy, or drawn by temperature, top-k and top-p as in Python.
//
// Weights are exp of float32, which numpy's vector code may round by a last bit otherwise: a draw
// differs only where its random number falls into that gap, once in ten million.

import { generator } from "./random.js";

export const DEFAULTS = {
  max_new_tokens: 128,
  min_new_tokens: 0,
  do_sample: false,
  temperature: 1,
  top_k: 50,
  top_p: 1,
  seed: null,
};

function check(name, value, valid, expected) {
  if (!valid) throw new RangeError(`${name}=${value}: expected ${expected}`);
}

// All parameters: those given, those of the model, and the defaults. Unknown ones are refused.
export function parameters(given, ofModel = {}) {
  for (const name of Object.keys(given)) {
    check(name, given[name], name in DEFAULTS, `one of ${Object.keys(DEFAULTS).join(", ")}`);
  }
  const chosen = { ...DEFAULTS, ...ofModel, ...given };
  const whole = (name, least) =>
    check(name, chosen[name], Number.isInteger(chosen[name]) && chosen[name] >= least,
      `a whole number from ${least} up`);
  for (const name of ["max_new_tokens", "min_new_tokens", "top_k"]) whole(name, 0);
  if (chosen.seed !== null) whole("seed", 0);
  check("do_sample", chosen.do_sample, typeof chosen.do_sample === "boolean", "true or false");
  check("temperature", chosen.temperature, chosen.temperature > 0, "a number above 0");
  check("top_p", chosen.top_p, chosen.top_p > 0 && chosen.top_p <= 1, "a number above 0, to 1");
  for (const name of ["temperature", "top_k", "top_p", "seed"]) {
    check(name, given[name], given[name] == null || chosen.do_sample, "do_sample=true with it");
  }
  return chosen;
}

// A function of one row's logits, a Float32Array, for one sequence.
export function sampler(chosen) {
  if (!chosen.do_sample) return argmax;
  const random = generator(chosen.seed ?? freshSeed());
  return (logits) => {
    const largest = topK(warm(logits, chosen.temperature), chosen.top_k);
    return draw(topP(largest, chosen.top_p), random());
  };
}

function freshSeed() {
  const fresh = crypto.getRandomValues(new Uint32Array(4));
  return fresh.reduce((number, word) => (number << 32n) | BigInt(word), 0n);
}

function argmax(logits) {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id] > logits[best]) best = id;
  return best;
}

// The tokens still in the draw: ids in ascending order, each with its logit.
function warm(logits, temperature) {
  const found = { ids: [], logits: [] };
  const divisor = Math.fround(temperature);
  for (let id = 0; id < logits.length; id++) {
    if (logits[id] === -Infinity) continue;
    found.ids.push(id);
    found.logits.push(temperature === 1 ? logits[id] : Math.fround(logits[id] / divisor));
  }
  return found;
}

function kept(candidates, keep) {
  const stays = candidates.logits.map(keep);
  return {
    ids: candidates.ids.filter((_, i) => stays[i]),
    logits: candidates.logits.filter((_, i) => stays[i]),
  };
}

function falling(logits) {
  return Float32Array.from(logits).sort().reverse();
}

function topK(candidates, k) {
  if (k === 0 || k >= candidates.logits.length) return candidates;
  const smallest = falling(candidates.logits)[k - 1];
  return kept(candidates, (logit) => logit >= smallest);
}

// The most probable tokens, as few as reach p; of equal ones at the border the lowest ids.
function topP(candidates, p) {
  if (p === 1) return candidates;
  const sorted = falling(candidates.logits);
  const last = reaching(weightsOf(sorted), p, (sum, target) => sum >= target);
  const border = sorted[last];
  let equal = last + 1 - candidates.logits.filter((logit) => logit > border).length;
  return kept(candidates, (logit) => logit > border || (logit === border && equal-- > 0));
}

function draw(candidates, uniform) {
  const place = reaching(weightsOf(candidates.logits), uniform, (sum, target) => sum > target);
  return candidates.ids[place];
}

function weightsOf(logits) {
  let largest = -Infinity;
  for (const logit of logits) largest = Math.max(largest, logit);
  return Float32Array.from(logits, (logit) => Math.exp(Math.fround(logit - largest)));
}

// Where the running sum comes to a share of the total; the last weight above 0 where rounding
// keeps it from there.
function reaching(weights, share, reached) {
  const sums = new Float64Array(weights.length);
  let total = 0;
  weights.forEach((weight, i) => { sums[i] = total += weight; });
  const found = sums.findIndex((sum) => reached(sum, share * total));
  return found >= 0 ? found : weights.findLastIndex((weight) => weight > 0);
}
