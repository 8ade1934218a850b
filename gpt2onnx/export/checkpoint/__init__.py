"""A checkpoint's files: config, weights, tokenizer; from a folder or a hub."""
