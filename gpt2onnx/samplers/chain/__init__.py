"""A call's chain: its penalties and warpers in order, and the sampler that runs them."""
