"""One module for each command, with `parser()` and `run(args)`."""
