"""What other runtimes expect of a model folder: names, inputs, extra files."""
