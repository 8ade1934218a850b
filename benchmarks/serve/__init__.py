"""Servers under load, ours and others behind the same client.

    python -m benchmarks.serve --help           against the others: docs/notes/server.md
    python -m benchmarks.serve.endure --help    overload for a long time, every answer checked
    python -m benchmarks.serve.overhead --help  what the server adds to its engine

client     HTTP by hand, cheap: it writes a request, and notes when each piece of the answer came
workload   requests that come at random, of mixed lengths, some with a beginning in common
servers    a server as a process: its start, its memory, its end
"""
