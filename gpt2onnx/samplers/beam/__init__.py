"""Beam search over logits: its hypotheses, their scores, and words that must come. numpy alone."""
