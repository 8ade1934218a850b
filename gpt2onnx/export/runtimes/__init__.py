"""What other runtimes want of a model folder: names, inputs, files beside the graph."""
