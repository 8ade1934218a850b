"""Beam search over logits: hypotheses, scores, forced words. numpy alone."""
