"""Text to tokens and back: prompts, the detokenizer, stop strings."""
