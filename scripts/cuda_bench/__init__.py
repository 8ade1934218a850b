"""What bench_cuda.py finds out: answers and times of models on a device, and of torch there."""
