"""CUDA without a device: ONNX Runtime's own provider over a stand-in for CUDA's libraries."""
