"""Batch jobs: files of prompts in, files of answers out, by processes here or on a Ray cluster."""

from gpt2onnx.batch.predictor import RayPredictor

__all__ = ["RayPredictor"]
