"""The engine: tasks of all kinds share a decoder's runs. It knows no text and no sampling."""
