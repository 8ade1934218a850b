"""Structured output: JSON schemas, grammars, regular expressions and choices, by llguidance."""
