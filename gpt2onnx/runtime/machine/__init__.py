"""The machine that this process runs on: processors, threads, memory."""
