"""What an export writes with: nodes of a graph, files of a model folder, a bar of its progress."""
