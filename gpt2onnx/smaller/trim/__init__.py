"""Fewer tokens: the vocabulary that texts use, with whatever their merges need."""
