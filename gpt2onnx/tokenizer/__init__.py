"""Tokenizer files by other people: opened, bounded, and tried where they could do harm.

Both ends of a model folder come through here: what is exported, and what is opened again.
"""
