// GPT-2's byte-level BPE, from tokenizer.json.

const SPACE = "\\p{White_Space}"; // \s is JavaScript's own set
const WORDS = new RegExp(
  [
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+",
    ` ?[^${SPACE}\\p{L}\\p{N}]+|${SPACE}+(?![^${SPACE}])|${SPACE}+`,
  ].join("|"),
  "gu",
);

// The printable character that stands for each byte.
function symbols() {
  const own = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(own(byte) ? byte : next++));
}

export class Tokenizer {
  constructor(json) {
    const { model, pre_tokenizer: split, normalizer } = json;
    const known = model.type === "BPE" && split?.type === "ByteLevel" && split.use_regex !== false;
    if (!known || split.add_prefix_space || normalizer) {
      throw new Error("tokenizer.json: expected GPT-2's byte-level BPE, found something else");
    }
    this.symbols = symbols();
    this.bytes = new Map(this.symbols.map((symbol, byte) => [symbol, byte]));
    this.ids = new Map(Object.entries(model.vocab));
    this.added = new Map(json.added_tokens.map((token) => [token.content, token.id]));
    this.tokens = new Map([...this.ids].map(([token, id]) => [id, token]));
    this.special = new Set(this.added.values());
    const pairs = model.merges.map((pair) => (typeof pair === "string" ? pair : pair.join(" ")));
    this.ranks = new Map(pairs.map((pair, rank) => [pair, rank]));
    const escaped = [...this.added.keys()]
      .sort((a, b) => b.length - a.length)
      .map((text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    this.splitter = escaped.length ? new RegExp(`(${escaped.join("|")})`) : null;
    this.cache = new Map();
  }

  encode(text) {
    const parts = this.splitter ? text.split(this.splitter) : [text];
    return parts.flatMap((part) =>
      this.added.has(part)
        ? [this.added.get(part)]
        : [...part.matchAll(WORDS)].flatMap(([word]) => this.#word(word)));
  }

  // The bytes of a token's text; none of a special one.
  bytesOf(id) {
    if (this.special.has(id)) return [];
    return [...(this.tokens.get(id) ?? "")].map((symbol) => this.bytes.get(symbol));
  }

  #word(word) {
    if (!this.cache.has(word)) this.cache.set(word, this.#merge(word));
    return this.cache.get(word);
  }

  #merge(word) {
    const pieces = Array.from(new TextEncoder().encode(word), (byte) => this.symbols[byte]);
    for (;;) {
      let best = -1;
      let lowest = Infinity;
      for (let i = 0; i + 1 < pieces.length; i++) {
        const rank = this.ranks.get(`${pieces[i]} ${pieces[i + 1]}`) ?? Infinity;
        if (rank < lowest) [best, lowest] = [i, rank];
      }
      if (best < 0) return pieces.map((piece) => this.ids.get(piece));
      pieces.splice(best, 2, pieces[best] + pieces[best + 1]);
    }
  }
}
