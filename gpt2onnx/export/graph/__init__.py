"""GPT-2's graphs, one call a node: for the CPU, for CUDA, in standard operators."""
