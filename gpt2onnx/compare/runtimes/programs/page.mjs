// Runs a job in a page: job.json is fetched, what comes of it is posted to /result.

const job = await (await fetch("/job.json")).json();
const post = (path, body) => fetch(path, { method: "POST", body });

async function bytesOf(name) {
  const response = await fetch(`/models/model/${name}`);
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}

// `build`: of onnxruntime-web's; the one called all has an older WebGPU, of 2 and 4 bits alone.
async function onnxruntime(provider, build) {
  const ort = await import(`/modules/onnxruntime-web/dist/ort.${build}.min.mjs`);
  const { greedy } = await import("./greedy.mjs");
  ort.env.wasm.numThreads = job.threads;
  ort.env.logLevel = "error";
  const open = async () => {
    const data = job.data && [{ path: job.data.split("/").pop(), data: await bytesOf(job.data) }];
    const options = { executionProviders: [provider], ...(data && { externalData: data }) };
    return ort.InferenceSession.create(await bytesOf(job.graph), options);
  };
  const save = (path, rows) => post(`/logits?${encodeURIComponent(path)}`, new Blob(rows));
  const found = await greedy(ort, open, job, save, false);
  return { ...found, version: ort.env.versions.web ?? found.version };
}

async function transformers(device) {
  const dist = "/modules/@huggingface/transformers/dist/";
  const library = await import(`${dist}transformers.web.min.js`);
  const { greedy } = await import("./transformers.mjs");
  library.env.backends.onnx.wasm.wasmPaths = "/modules/onnxruntime-web/dist/";
  library.env.backends.onnx.wasm.numThreads = job.threads;
  const options = { ...job.options, device };
  return greedy(library, "/models/", "model", { ...job, options });
}

const RUNTIMES = {
  web: () => onnxruntime("wasm", "all"),
  "web-webgpu": () => onnxruntime("webgpu", "webgpu"),
  "transformers.js-web": () => transformers("wasm"),
  "transformers.js-webgpu": () => transformers("webgpu"),
};
try {
  await post("/result", JSON.stringify(await RUNTIMES[job.runtime]()));
} catch (error) {
  await post("/result", JSON.stringify({ reason: `${error.message ?? error}`.split("\n")[0] }));
}
