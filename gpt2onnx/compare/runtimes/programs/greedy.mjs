// Writes greedily on one of ONNX Runtime's JavaScript packages. `job` is job.py's; `save(path,
// floats)` keeps logits. Knows graphs by their inputs' names alone.

const ARRAYS = { float32: Float32Array, float16: Uint16Array, int8: Int8Array };

// int64 [rows, n]
function rows(ort, values) {
  const flat = BigInt64Array.from(values.flat(), BigInt);
  return new ort.Tensor("int64", flat, [values.length, values[0].length]);
}

function range(from, to) {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

// Each layer's keys and values, of `length` zeros a row.
function caches(ort, session, batch, length) {
  const found = session.inputMetadata.filter(({ name }) => name.startsWith("past_key_values"));
  return Object.fromEntries(found.map(({ name, type, shape: [, heads, , size] }) => {
    const zeros = new ARRAYS[type](batch * heads * length * size);
    return [name, new ort.Tensor(type, zeros, [batch, heads, length, size])];
  }));
}

const present = (name) => name.replace("past_key_values", "present");

function presentAsPast(past, outputs) {
  return Object.fromEntries(Object.keys(past).map((name) => [name, outputs[present(name)]]));
}

// With attention_mask: each run's present is the next one's past.
function growing(ort, session, batch) {
  let past = caches(ort, session, batch, 0);
  let length = 0;
  return async (ids) => {
    const total = length + ids[0].length;
    const outputs = await session.run({
      input_ids: rows(ort, ids),
      attention_mask: rows(ort, ids.map(() => new Array(total).fill(1))),
      position_ids: rows(ort, ids.map(() => range(length, total))),
      ...past,
    });
    length = total;
    for (const tensor of Object.values(past)) tensor.dispose();
    past = presentAsPast(past, outputs);
    return outputs.logits;
  };
}

// The fused graph: past and present are one memory where the package writes into given outputs
// (WebAssembly's doesn't), and each row's last token alone has logits.
function fused(ort, session, batch, capacity, inPlace) {
  let past = caches(ort, session, batch, capacity);
  let length = 0;
  return async (ids) => {
    const total = length + ids[0].length;
    const last = ids.map((row, at) => BigInt((at + 1) * row.length - 1));
    const fetches = { logits: null };
    for (const [name, tensor] of Object.entries(past)) {
      fetches[present(name)] = inPlace ? tensor : null;
    }
    const outputs = await session.run({
      input_ids: rows(ort, ids),
      position_ids: rows(ort, ids.map(() => range(length, total))),
      seqlens_k: new ort.Tensor("int32", new Int32Array(batch).fill(total - 1), [batch]),
      total_sequence_length: new ort.Tensor("int32", Int32Array.of(total), []),
      logits_index: new ort.Tensor("int64", BigInt64Array.from(last), [batch]),
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

// The logits after each row's last token.
function lastLogits(tensor, batch) {
  const [rows] = tensor.dims;
  if (rows !== batch) throw new Error(`it gives logits of ${rows} rows: expected ${batch}`);
  const vocab = tensor.dims[tensor.dims.length - 1];
  const each = tensor.data.length / batch;
  return range(1, batch + 1).map((row) => tensor.data.slice(row * each - vocab, row * each));
}

// A token behind each row and behind each given one, or `count` of the model's own.
async function write(read, text, save) {
  const tokens = text.ids.map(() => []);
  const kept = [];
  const times = [];
  let ids = text.ids;
  let before = performance.now();
  for (let at = 0; at < text.count; at++) {
    const tensor = await read(ids);
    const logits = lastLogits(tensor, ids.length);
    tensor.dispose();
    logits.forEach((each, row) => tokens[row].push(argmax(each)));
    const now = performance.now();
    times.push((now - before) / 1e3);
    before = now;
    ids = tokens.map((row) => [text.given?.[at] ?? row[at]]);
    if (text.logits) kept.push(...logits);
  }
  if (text.logits) await save(text.logits, kept);
  return { tokens, times };
}

export async function greedy(ort, open, job, save, inPlace) {
  const started = performance.now();
  const session = await open();
  const load_s = (performance.now() - started) / 1e3;
  const isFused = session.inputNames.includes("seqlens_k");
  const texts = [];
  for (const text of job.texts) {
    const batch = text.ids.length;
    const read = isFused
      ? fused(ort, session, batch, job.capacity, inPlace)
      : growing(ort, session, batch);
    texts.push(await write(read, text, save));
  }
  return { version: ort.env.versions.common, load_s, texts };
}
