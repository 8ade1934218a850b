"""Stand-ins for CUDA's libraries: ONNX Runtime's CUDA provider runs, and what it asks is recorded.

cuda.cpp is the stand-in, with a device that does nothing (idle.cpp) or computes (on_host/).
build.py makes a library of it for the provider that is installed, run.py runs a model on it,
record.py counts what was recorded. ../launches.py and ../on_host.py are the commands.
"""
