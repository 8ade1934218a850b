"""Many requests of one model at once: an engine with its own thread, and handles to wait on."""
