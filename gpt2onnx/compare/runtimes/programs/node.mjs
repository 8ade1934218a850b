// Runs a job in Node: JSON on standard input, a line of JSON on standard output.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const job = JSON.parse(readFileSync(0, "utf8"));
const { resolve } = createRequire(join(job.modules, "none.js"));
const print = console.log;
console.log = console.error;

async function onnxruntime() {
  const ort = (await import(pathToFileURL(resolve("onnxruntime-node")))).default;
  const { greedy } = await import("./greedy.mjs");
  const options = { intraOpNumThreads: job.threads, logSeverityLevel: 3 };
  const open = () => ort.InferenceSession.create(join(job.folder, job.graph), options);
  const save = (path, rows) => writeFileSync(path, Buffer.concat(rows.map(bytes)));
  const found = await greedy(ort, open, job, save, true);
  return { ...found, version: ort.env.versions.node ?? found.version };
}

function bytes(floats) {
  return Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength);
}

async function transformers() {
  const main = join(job.modules, "@huggingface/transformers/dist/transformers.node.mjs");
  const library = await import(pathToFileURL(main));
  const { greedy } = await import("./transformers.mjs");
  return greedy(library, dirname(job.folder), basename(job.folder), job);
}

function memory() {
  return { resident_bytes: process.memoryUsage.rss(), anonymous_bytes: null };
}

const RUNTIMES = { node: onnxruntime, "transformers.js": transformers };
try {
  print(JSON.stringify({ ...(await RUNTIMES[job.runtime]()), ...memory() }));
} catch (error) {
  print(JSON.stringify({ reason: `${error.message ?? error}`.split("\n")[0] }));
}
