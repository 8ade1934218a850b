"""Programs that runtimes' own interpreters run, without gpt2onnx: Python, Node, a browser."""
