"""Where a model's time goes, and the least time that this machine could take."""
