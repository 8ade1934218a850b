"""Lookahead decoding: the model guesses its own n-grams, and checks them in one run."""
