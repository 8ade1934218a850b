"""A model folder on disk: its files, its manifest, and whether both agree."""
