"""Fewer layers and hidden units: those that change a text's stream least, the rest refitted."""
