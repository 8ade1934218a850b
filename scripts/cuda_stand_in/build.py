"""Makes one library of cuda.cpp that passes for all of CUDA's that a CUDA provider is linked to.

What the provider wants, its own symbol table says, so that another version of it is served, too.
Functions that cuda.cpp doesn't have are written here, by their names: products are recorded,
handles handed out, settings accepted; anything else is refused when it is called, and says so.
Knows GNU's tools and the names that Python packages give to folders; nothing of models.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

SOURCE = Path(__file__).with_name("cuda.cpp")
PACKAGES = "onnxruntime-gpu==1.31.1 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*'"
INSTALL = f"pip install --target DIR --no-deps {PACKAGES}, then PYTHONPATH=DIR"
DRIVER = "libcuda.so.1"  # its functions have no versions; all the other libraries' have their name
PRODUCT = re.compile(r"^cublas.*([gG]emm|LtMatmul$)")
HANDLE = re.compile(r"Create(_v2|WithFlags)?$|Instantiate$")
SUCCEEDS = re.compile(
    r"^cublas.*(Set|Destroy|AlgoInit)|^__cuda.*[rR]egister|"
    r"^cuda(Event|Stream|Graph|GraphExec|MemPool|Func|Kernel|Library)"
    r"(Record|WaitEvent|Destroy|Set|TrimTo|Unload)"
)
HEURISTIC = "cublasLtMatmulAlgoGetHeuristic"  # (…, results, count): says that one was found


class BuildError(Exception):
    """What is missing for a stand-in, and what to do."""


def provider() -> Path:
    """The CUDA provider of the onnxruntime that would be imported. Errors: BuildError."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise BuildError(f"onnxruntime-gpu is not installed: {INSTALL}")
    library = Path(spec.origin).parent / "capi" / "libonnxruntime_providers_cuda.so"
    if not library.is_file():
        raise BuildError(f"{Path(spec.origin).parent} has no CUDA provider: {INSTALL}")
    return library


def headers(version: int) -> Path:
    """CUDA's headers of a major version, as NVIDIA's packages install them. Errors: BuildError."""
    for folder in sys.path:
        include = Path(folder, "nvidia", f"cu{version}", "include")
        wanted = include / "cuda_runtime_api.h", include / "crt" / "host_defines.h"
        if all(header.is_file() for header in wanted):
            return include
    raise BuildError(f"CUDA {version}'s headers are not installed: {INSTALL}")


def build(library: Path, out: Path, include: Path | None = None) -> list[str]:
    """Write into `out` a stand-in for what `library` is linked to; its names, as are to be loaded.

    `include` has CUDA's headers. Errors: BuildError.
    """
    wanted = symbols(library)
    compiler = _tool(os.environ.get("CXX", "g++"))
    include = include or headers(_version(wanted))
    made = out / "libcuda_stand_in.so"
    compiled = out / "cuda.o"
    flags = ["-std=c++17", "-O1", "-fPIC"]
    _run(compiler, *flags, f"-I{include}", "-c", str(SOURCE), "-o", str(compiled))
    rest = out / "rest.cpp"
    missing = sorted({name for names in wanted.values() for name in names} - _defined(compiled))
    rest.write_text(rest_of(missing))
    versions = out / "versions"
    versions.write_text(version_script(wanted))
    link = ["-shared", f"-Wl,--version-script={versions}", "-ldl"]
    _run(compiler, *flags, str(compiled), str(rest), *link, "-o", str(made))
    for name in wanted:
        (out / name).symlink_to(made.name)
    return list(wanted)


def symbols(library: Path) -> dict[str, list[str]]:
    """CUDA's functions that a library wants, by the library it wants them of."""
    needed = re.findall(r"NEEDED.*\[(libcu.*)\]", _run(_tool("readelf"), "-d", str(library)))
    found: dict[str, list[str]] = {name: [] for name in needed}
    for line in _run(_tool("nm"), "-D", "--undefined-only", str(library)).splitlines():
        name, _, version = line.split()[-1].partition("@")
        if not version and re.match("cu[A-Z]", name):
            version = DRIVER
        if version in found:
            found[version].append(name)
    if not any(found.values()):
        raise BuildError(f"{library} wants nothing of CUDA: expected ONNX Runtime's CUDA provider")
    return found


def rest_of(names: Iterable[str]) -> str:
    """C++ of functions that cuda.cpp doesn't have; each passes for any arguments."""
    declared = ["int cuda_stand_in_record(const char *, const char *);"]
    declared += ["int cuda_stand_in_lacks(const char *);"]
    functions = [f"int {name}{_body(name)}" for name in names]
    return "\n".join(["#include <cstdlib>", 'extern "C" {', *declared, *functions, "}", ""])


def _body(name: str) -> str:
    if name == HEURISTIC:
        inputs = ", ".join(["void *"] * 7)
        return f"({inputs}, int, void *, int *count) {{ *count = 1; return 0; }}"
    if PRODUCT.search(name):
        return f'() {{ return cuda_stand_in_record("product", "{name}"); }}'
    if HANDLE.search(name):
        return "(void **handle) { *handle = std::calloc(1, 64); return 0; }"
    if SUCCEEDS.search(name):
        return "() { return 0; }"
    return f'() {{ return cuda_stand_in_lacks("{name}"); }}'


def version_script(wanted: dict[str, list[str]]) -> str:
    """The linker's map of versions: CUDA's are the libraries' names."""
    nodes: dict[str, list[str]] = defaultdict(list)
    for version, names in wanted.items():
        if version != DRIVER:
            nodes[version] += [f"    {name};" for name in names]
    return "".join(
        "\n".join([f"{version} {{", *(["  global:", *names] if names else []), "};", ""])
        for version, names in nodes.items()
    )


def _version(wanted: Iterable[str]) -> int:
    found = re.search(r"libcudart\.so\.(\d+)", " ".join(wanted))
    if not found:
        raise BuildError(f"the provider wants {', '.join(wanted)}: expected libcudart.so, too")
    return int(found[1])


def _defined(compiled: Path) -> set[str]:
    lines = _run(_tool("nm"), "--defined-only", "--extern-only", str(compiled)).splitlines()
    return {line.split()[-1] for line in lines}


def _tool(name: str) -> str:
    found = shutil.which(name)
    if not found:
        raise BuildError(f"{name} is missing: install g++ and binutils")
    return found


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout
