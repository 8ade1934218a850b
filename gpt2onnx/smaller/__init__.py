"""Smaller checkpoints of a larger one: fewer tokens, layers or units. To distill needs PyTorch."""
