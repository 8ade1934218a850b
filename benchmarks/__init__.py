"""The benchmark against everyone: the same checkpoint, prompts and lengths through every engine.

`scripts/bench` runs it; docs/benchmarks.md says how it measures. The driver (everything here but
peers/) needs Python's standard library alone; each engine runs in an environment of its own.
"""
