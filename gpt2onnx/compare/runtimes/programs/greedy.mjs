// Writes greedily on one of ONNX Runtime's JavaScript packages. `job` is job.py's; `save(path,
// floats)` keeps logits. Knows graphs by their inputs' names alone.

const ARRAYS = { float32: Float32Array, float16: Uint16Array, int8: Int8Array };

function row(ort, values) {
  return new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
}

function range(from, to) {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

// Each layer's keys and values, of `length` zeros.
function caches(ort, session, length) {
  const found = session.inputMetadata.filter(({ name }) => name.startsWith("past_key_values"));
  return Object.fromEntries(found.map(({ name, type, shape: [, heads, , size] }) => {
    const zeros = new ARRAYS[type](heads * length * size);
    return [name, new ort.Tensor(type, zeros, [1, heads, length, size])];
  }));
}

const present = (name) => name.replace("past_key_values", "present");

function presentAsPast(past, outputs) {
  return Object.fromEntries(Object.keys(past).map((name) => [name, outputs[present(name)]]));
}

// With attention_mask: each run's present is the next one's past.
function growing(ort, session) {
  let past = caches(ort, session, 0);
  let length = 0;
  return async (ids) => {
    const outputs = await session.run({
      input_ids: row(ort, ids),
      attention_mask: row(ort, new Array(length + ids.length).fill(1)),
      position_ids: row(ort, range(length, length + ids.length)),
      ...past,
    });
    length += ids.length;
    for (const tensor of Object.values(past)) tensor.dispose();
    past = presentAsPast(past, outputs);
    return outputs.logits;
  };
}

// The fused graph: past and present are one memory where the package writes into given outputs
// (WebAssembly's doesn't), and the last token alone has logits.
function fused(ort, session, capacity, inPlace) {
  let past = caches(ort, session, capacity);
  let length = 0;
  return async (ids) => {
    const total = length + ids.length;
    const fetches = { logits: null };
    for (const [name, tensor] of Object.entries(past)) {
      fetches[present(name)] = inPlace ? tensor : null;
    }
    const outputs = await session.run({
      input_ids: row(ort, ids),
      position_ids: row(ort, range(length, total)),
      seqlens_k: new ort.Tensor("int32", Int32Array.of(total - 1), [1]),
      total_sequence_length: new ort.Tensor("int32", Int32Array.of(total), []),
      logits_index: new ort.Tensor("int64", BigInt64Array.of(BigInt(ids.length - 1)), [1]),
      ...past,
    }, fetches);
    length = total;
    past = presentAsPast(past, outputs);
    return outputs.logits;
  };
}

function argmax(logits) {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id] > logits[best]) best = id;
  return best;
}

// A token behind the text's ids and one behind each given one, or `count` of the model's own.
async function write(read, text, save) {
  const tokens = [];
  const rows = [];
  const times = [];
  let ids = text.ids;
  let before = performance.now();
  for (let at = 0; at < text.count; at++) {
    const tensor = await read(ids);
    const vocab = tensor.dims[tensor.dims.length - 1];
    const logits = tensor.data.slice(tensor.data.length - vocab);
    tensor.dispose();
    tokens.push(argmax(logits));
    const now = performance.now();
    times.push((now - before) / 1e3);
    before = now;
    ids = [text.given?.[at] ?? tokens[at]];
    if (text.logits) rows.push(logits);
  }
  if (text.logits) await save(text.logits, rows);
  return { tokens, times };
}

export async function greedy(ort, open, job, save, inPlace) {
  const started = performance.now();
  const session = await open();
  const load_s = (performance.now() - started) / 1e3;
  const isFused = session.inputNames.includes("seqlens_k");
  const texts = [];
  for (const text of job.texts) {
    const read = isFused ? fused(ort, session, job.capacity, inPlace) : growing(ort, session);
    texts.push(await write(read, text, save));
  }
  return { version: ort.env.versions.common, load_s, texts };
}
