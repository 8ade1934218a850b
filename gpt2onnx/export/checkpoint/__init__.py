"""A checkpoint's files: config, weights, tokenizer, and the hub that they come from."""
