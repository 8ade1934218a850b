"""One module an engine, run in that engine's environment by benchmarks/worker.py.

Each has `convert(checkpoint, folder, **options)`, which writes what the engine opens, and
`Engine(folder, threads, **options)`, an `Engine` of peers/engine.py. They know their engine, and
nothing of each other, of times, or of what is compared.
"""
