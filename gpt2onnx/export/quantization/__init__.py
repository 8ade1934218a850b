"""How a matrix is stored and multiplied in each precision, and how it is rounded."""
