// numpy's random generator: PCG64 seeded by SeedSequence, bit for bit.
//
// SeedSequence: https://github.com/numpy/numpy/blob/main/numpy/random/bit_generator.pyx
// PCG64, XSL-RR 128/64: O'Neill 2014, https://www.pcg-random.org

const POOL = 4;
const MASK64 = (1n << 64n) - 1n;
const MASK128 = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

// A whole number's 32-bit words, the lowest first; 0 has one.
function words(number) {
  const found = [];
  let rest = BigInt(number);
  do {
    found.push(Number(rest & 0xffffffffn));
    rest >>= 32n;
  } while (rest > 0n);
  return found;
}

function hasher(constant, multiplier) {
  return (value) => {
    value = (value ^ constant) >>> 0;
    constant = Math.imul(constant, multiplier) >>> 0;
    value = Math.imul(value, constant) >>> 0;
    return (value ^ (value >>> 16)) >>> 0;
  };
}

function mix(x, y) {
  const mixed = (Math.imul(x, 0xca01f9dd) - Math.imul(y, 0x4973f715)) >>> 0;
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

// SeedSequence(seed, spawn_key=(index,)).generate_state(4, uint64).
function state(seed, index) {
  const entropy = words(seed);
  while (entropy.length < POOL) entropy.push(0);
  entropy.push(...words(index));
  const hash = hasher(0x43b0d7e5, 0x931e8875);
  const pool = entropy.slice(0, POOL).map(hash);
  for (let from = 0; from < POOL; from++) {
    for (let to = 0; to < POOL; to++) {
      if (from !== to) pool[to] = mix(pool[to], hash(pool[from]));
    }
  }
  for (const word of entropy.slice(POOL)) {
    for (let to = 0; to < POOL; to++) pool[to] = mix(pool[to], hash(word));
  }
  const out = hasher(0x8b51f9dd, 0x58f38ded);
  const halves = Array.from({ length: 8 }, (_, i) => BigInt(out(pool[i % POOL])));
  return Array.from({ length: 4 }, (_, i) => halves[2 * i] | (halves[2 * i + 1] << 32n));
}

// What gpt2onnx.samplers.draw.generator(seed, index).random() gives, call by call.
export function generator(seed, index = 0) {
  const [high, low, incrementHigh, incrementLow] = state(seed, index);
  const increment = ((((incrementHigh << 64n) | incrementLow) << 1n) | 1n) & MASK128;
  const step = (x) => (x * MULTIPLIER + increment) & MASK128;
  let current = step((step(0n) + ((high << 64n) | low)) & MASK128);
  return () => {
    current = step(current);
    const folded = (current >> 64n) ^ (current & MASK64);
    const turn = current >> 122n;
    const bits = ((folded >> turn) | (folded << ((64n - turn) & 63n))) & MASK64;
    return Number(bits >> 11n) / 2 ** 53;
  };
}
