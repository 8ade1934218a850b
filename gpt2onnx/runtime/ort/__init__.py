"""ONNX Runtime: sessions, where they really run, errors, the start-up cache."""
