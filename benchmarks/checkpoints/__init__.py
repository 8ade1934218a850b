"""Checkpoints to measure on: of a real size with random weights, or with outliers put in."""
