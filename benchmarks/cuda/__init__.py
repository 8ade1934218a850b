"""Whether models on a CUDA device answer rightly, and how fast; torch beside them."""
