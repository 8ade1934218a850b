"""What activations are while the checkpoint reads a text, for rounding that heeds them."""
