"""Smaller checkpoints of a larger one: fewer tokens, layers or hidden units. Needs no PyTorch."""
