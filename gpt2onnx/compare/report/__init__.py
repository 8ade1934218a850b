"""A record as tables, sentences, Markdown and a page."""
