"""A module a command, each with `parser()` and `run(args)`."""
