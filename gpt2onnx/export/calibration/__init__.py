"""The activations of a checkpoint while it reads a text, which calibrate the rounding."""
