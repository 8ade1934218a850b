// GPT-2 in ONNX Runtime's JavaScript packages, for folders of `gpt2onnx export --for
// transformers.js`, or any other with attention_mask among its graph's inputs.

import { parameters, sampler } from "./sampler.js";
import { Tokenizer } from "./tokenizer.js";

export { generator } from "./random.js";
export { Tokenizer } from "./tokenizer.js";

// What generation_config.json may say; anything else would change the text, and is refused.
const SETTINGS = ["do_sample", "temperature", "top_k", "top_p", "max_new_tokens", "min_new_tokens"];
const SILENT = /^_|_token_id$|^transformers_version$|^max_length$|^use_cache$/;

// A folder behind a URL. `read(name)` gives a file's bytes, `session(...)` opens a graph.
export function urlFolder(ort, url) {
  const read = async (name) => {
    const response = await fetch(new URL(name, new URL(url, globalThis.location?.href)));
    if (!response.ok) throw new Error(`${url}${name}: ${response.status} ${response.statusText}`);
    return new Uint8Array(await response.arrayBuffer());
  };
  const session = async (graph, data, options) => {
    const path = data?.split("/").pop();
    const externalData = data ? [{ path, data: await read(data) }] : [];
    return ort.InferenceSession.create(await read(graph), { ...options, externalData });
  };
  return { read, session };
}

// Open a model. `options` are ONNX Runtime's: executionProviders and the like.
export async function load(ort, folder, options = {}) {
  const json = async (name) => JSON.parse(new TextDecoder().decode(await folder.read(name)));
  const [manifest, config, tokenizer] = await Promise.all(
    ["manifest.json", "config.json", "tokenizer.json"].map(json));
  const files = Object.keys(manifest.files);
  const name = "generation_config.json";
  const settings = files.includes(name) ? await json(name) : {};
  const graph = files.find((name) => name.endsWith(".onnx"));
  const data = files.find((name) => name.startsWith(`${graph}_data`));
  const layers = config.n_layer ?? config.num_hidden_layers;
  const providers = (options.executionProviders ?? []).map((each) => each.name ?? each);
  const places = caches("present", layers, "gpu-buffer");
  const kept = providers.includes("webgpu") ? { preferredOutputLocation: places } : {};
  const session = await folder.session(graph, data, { ...options, ...kept });
  if (!session.inputNames.includes("attention_mask")) {
    throw new Error(`${graph}: no attention_mask among its inputs; export --for transformers.js`);
  }
  const reader = new Tokenizer(tokenizer);
  return new Model(ort, session, { ...config, ...settings }, reader, defaults(settings));
}

function defaults(settings) {
  const found = {};
  for (const [name, value] of Object.entries(settings)) {
    if (value === null || SILENT.test(name)) continue;
    if (!SETTINGS.includes(name)) {
      throw new Error(`generation_config.json: ${name} isn't supported here; leave it out`);
    }
    found[name] = value;
  }
  return found;
}

function caches(prefix, layers, value) {
  const names = ["key", "value"].flatMap((part) =>
    Array.from({ length: layers }, (_, layer) => `${prefix}.${layer}.${part}`));
  return Object.fromEntries(names.map((name) => [name, value]));
}

export class Model {
  constructor(ort, session, config, tokenizer, ofModel) {
    Object.assign(this, { ort, session, config, tokenizer, ofModel });
    this.positions = config.n_positions ?? config.max_position_embeddings;
    this.ends = new Set([config.eos_token_id ?? []].flat());
  }

  // Yields { token, text } for each new token: text is what has become whole of it.
  async *stream(prompt, given = {}) {
    const chosen = parameters(given, given.do_sample === false ? {} : this.ofModel);
    const choose = sampler(chosen);
    const ids = typeof prompt === "string" ? this.tokenizer.encode(prompt) : [...prompt];
    if (!ids.length) ids.push(this.config.bos_token_id);
    const decoder = new TextDecoder();
    const most = Math.min(chosen.max_new_tokens, this.positions - ids.length);
    if (this.positions <= ids.length) {
      throw new RangeError(`a prompt of ${ids.length} tokens: expected below ${this.positions}`);
    }
    let past = this.#empty();
    let known = 0;
    try {
      for (let made = 0; made < most; made++) {
        const outputs = await this.session.run({ ...this.#feeds(ids, known), ...past });
        for (const tensor of Object.values(past)) tensor.dispose();
        past = presentAsPast(outputs);
        known = ids.length;
        const logits = last(outputs.logits, this.config.vocab_size);
        outputs.logits.dispose();
        if (made < chosen.min_new_tokens) for (const end of this.ends) logits[end] = -Infinity;
        const token = choose(logits);
        ids.push(token);
        const bytes = Uint8Array.from(this.tokenizer.bytesOf(token));
        yield { token, text: decoder.decode(bytes, { stream: true }) };
        if (this.ends.has(token)) break;
      }
    } finally {
      for (const tensor of Object.values(past)) tensor.dispose();
    }
    const rest = decoder.decode();
    if (rest) yield { token: null, text: rest };
  }

  async generate(prompt, given = {}) {
    const found = { tokens: [], text: "" };
    for await (const { token, text } of this.stream(prompt, given)) {
      if (token !== null) found.tokens.push(token);
      found.text += text;
    }
    return found;
  }

  #feeds(ids, known) {
    const row = (values) =>
      new this.ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    return {
      input_ids: row(ids.slice(known)),
      attention_mask: row(new Array(ids.length).fill(1)),
      position_ids: row(Array.from({ length: ids.length - known }, (_, i) => known + i)),
    };
  }

  // A cache of no tokens, in the graph's own type.
  #empty() {
    const inputs = this.session.inputMetadata;
    const cached = inputs.filter(({ name }) => name.startsWith("past_key_values"));
    return Object.fromEntries(cached.map(({ name, type, shape }) => {
      const none = type === "float16" ? new Uint16Array(0) : new Float32Array(0);
      return [name, new this.ort.Tensor(type, none, [1, shape[1], 0, shape[3]])];
    }));
  }
}

function presentAsPast(outputs) {
  const present = Object.entries(outputs).filter(([name]) => name.startsWith("present."));
  return Object.fromEntries(
    present.map(([name, tensor]) => [name.replace("present", "past_key_values"), tensor]));
}

// The last position's logits, as an array of their own.
function last(tensor, vocab) {
  return tensor.data.slice(tensor.data.length - vocab);
}
