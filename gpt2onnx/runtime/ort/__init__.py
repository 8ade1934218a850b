"""ONNX Runtime: sessions, proof of where they run, what its errors mean, the start-up cache."""
