"""Which runtime runs which graph in which precision, how fast, and with the right tokens.

`scripts/runtimes` runs all of it and writes docs/runtimes.md.
"""
