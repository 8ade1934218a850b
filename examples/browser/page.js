// Loads model/, and writes behind the prompt while you watch.

import { load, urlFolder } from "../../js/index.js";

const FRAME = 16; // ms, between which the browser needn't paint
const element = (id) => document.getElementById(id);
const say = (status) => { element("status").textContent = status; };

async function hasWebGpu() {
  return Boolean(await navigator.gpu?.requestAdapter().catch(() => null));
}

async function open() {
  const provider = (await hasWebGpu()) ? "webgpu" : "wasm";
  // The other build's WebGPU is an older one, without MatMulNBits of 8 bits.
  const ort = await import(provider === "webgpu" ? "onnxruntime-web/webgpu" : "onnxruntime-web");
  // More threads want a page that is isolated from others: see README.md.
  if (!crossOriginIsolated) ort.env.wasm.numThreads = 1;
  const folder = urlFolder(ort, "model/");
  const model = await load(ort, folder, { executionProviders: [provider] });
  say(`ready, on ${provider}`);
  return model;
}

async function write(model) {
  const seed = element("seed").valueAsNumber;
  const drawing = element("draw").checked ? { do_sample: true, seed } : {};
  const prompt = element("prompt").value;
  element("text").textContent = prompt;
  let made = 0;
  let began;
  let painted = performance.now();
  const options = { max_new_tokens: element("tokens").valueAsNumber, ...drawing };
  for await (const { token, text } of model.stream(prompt, options)) {
    element("text").append(text);
    began ??= performance.now(); // the first token comes with the prompt's time
    if (token !== null && ++made > 1) {
      say(`${(((made - 1) * 1000) / (performance.now() - began)).toFixed(1)} tokens/s`);
    }
    if (performance.now() - painted > FRAME) {
      await new Promise((done) => setTimeout(done));
      painted = performance.now();
    }
  }
}

async function main() {
  const model = await open();
  element("write").disabled = false;
  element("form").onsubmit = async (event) => {
    event.preventDefault();
    element("write").disabled = true;
    await write(model).catch((error) => say(`error: ${error.message}`));
    element("write").disabled = false;
  };
}

main().catch((error) => say(`error: ${error.message}`));
