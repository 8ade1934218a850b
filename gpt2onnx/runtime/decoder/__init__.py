"""Rows and tokens in, logits out: the protocol, and the decoders and caches behind it."""
