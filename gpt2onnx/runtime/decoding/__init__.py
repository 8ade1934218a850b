"""Decoding strategies on the decoder: plain, beams, guidance, contrastive, speculation."""
