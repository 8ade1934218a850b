"""Runs a model folder on somebody else's runtime: in a process and environment of its own."""
