"""A model folder, opened and run: numpy and ONNX Runtime alone."""
