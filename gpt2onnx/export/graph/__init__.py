"""GPT-2's graphs, written one node a call: for the CPU, for CUDA, in standard operators."""
