"""One measurement, in a process of its own: answers, times, memory, energy, placement."""
