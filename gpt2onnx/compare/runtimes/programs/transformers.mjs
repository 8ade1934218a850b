// Writes greedily on transformers.js, by its own generate. `job` is job.py's; its texts have no
// given tokens, and leave no logits.

export async function greedy(library, root, name, job) {
  const { env, AutoModelForCausalLM, Tensor } = library;
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = root;
  const started = performance.now();
  const model = await AutoModelForCausalLM.from_pretrained(name, {
    dtype: job.options.dtype,
    device: job.options.device,
    session_options: { intraOpNumThreads: job.threads },
  });
  const load_s = (performance.now() - started) / 1e3;
  const texts = [];
  for (const { ids, count } of job.texts) texts.push(await write(model, Tensor, ids, count));
  return { version: env.version, load_s, texts };
}

async function write(model, Tensor, ids, count) {
  const rows = (values) =>
    new Tensor("int64", BigInt64Array.from(values.flat(), BigInt), [ids.length, ids[0].length]);
  const times = [];
  let before = performance.now();
  let prompt = true; // what generate gives a streamer first
  const streamer = {
    put() {
      const now = performance.now();
      if (!prompt) times.push((now - before) / 1e3);
      if (!prompt) before = now;
      prompt = false;
    },
    end() {},
  };
  const made = await model.generate({
    input_ids: rows(ids),
    attention_mask: rows(ids.map((row) => row.map(() => 1))),
    max_new_tokens: count,
    min_new_tokens: count,
    do_sample: false,
    streamer,
  });
  return { tokens: made.tolist().map((row) => row.slice(ids[0].length).map(Number)), times };
}
