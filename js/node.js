// A model folder on disk, for Node.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

export function diskFolder(ort, path) {
  return {
    read: (name) => readFile(join(path, name)),
    // By its path ONNX Runtime finds the data beside the graph itself.
    session: (graph, data, options) => ort.InferenceSession.create(join(path, graph), options),
  };
}
