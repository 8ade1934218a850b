"""Makes one library of cuda.cpp that passes for all of CUDA's that a CUDA provider is linked to.

What the provider wants, its own symbol table says, so that another version of it is served, too.
Functions that the sources don't have are written here, by their names: products are recorded,
handles handed out, settings accepted; anything else is refused when it is called, and says so.
A device that computes refuses products that it doesn't have, too.
Knows GNU's tools and the names that Python packages give to folders; nothing of models.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

SOURCES = Path(__file__).parent
# By whether they compute.
DEVICES = {False: ["idle.cpp"], True: ["on_host/compute.cpp", "on_host/products.cpp"]}
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


class BuildError(Exception):
    """Why there is no stand-in."""


class MissingError(BuildError):
    """What has to be installed for one."""


def provider() -> Path:
    """The CUDA provider of the onnxruntime that would be imported. Raises MissingError."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise MissingError(f"onnxruntime-gpu is not installed: {INSTALL}")
    library = Path(spec.origin).parent / "capi" / "libonnxruntime_providers_cuda.so"
    if not library.is_file():
        raise MissingError(f"{Path(spec.origin).parent} has no CUDA provider: {INSTALL}")
    return library


def headers(version: int) -> Path:
    """CUDA's headers of a major version, as NVIDIA's packages have them. Raises MissingError."""
    for folder in sys.path:
        include = Path(folder, "nvidia", f"cu{version}", "include")
        wanted = include / "cuda_runtime_api.h", include / "crt" / "host_defines.h"
        if all(header.is_file() for header in wanted):
            return include
    raise MissingError(f"CUDA {version}'s headers are not installed: {INSTALL}")


def build(library: Path, out: Path, computes: bool = False) -> list[str]:
    """Write into an empty folder a stand-in for what `library` is linked to; the names to preload.

    `computes` says whether its device does what it is asked. Raises BuildError.
    """
    wanted = symbols(library)
    include = headers(_version(wanted))
    compile_ = [_tool(os.environ.get("CXX", "g++")), "-std=c++17", "-O3", "-fPIC"]
    compiled, rest, versions = out / "cuda.o", out / "rest.cpp", out / "versions"
    sources = [str(SOURCES / name) for name in ("cuda.cpp", *DEVICES[computes])]
    _run(*compile_, f"-I{include}", "-r", *sources, "-o", str(compiled))
    lacking = sorted(set(chain(*wanted.values())) - _defined(compiled))
    rest.write_text(rest_of(lacking, computes))
    versions.write_text(version_script(wanted))
    made = out / "libcuda_stand_in.so"
    link = "-shared", f"-Wl,--version-script={versions}"
    _run(*compile_, str(compiled), str(rest), *link, "-o", str(made))
    for name in wanted:
        (out / name).symlink_to(made.name)
    return list(wanted)


def environment(stand_in: Path, names: Iterable[str]) -> dict[str, str]:
    """What a process has to find in its environment to run on the libraries `names` of a folder."""
    return {
        "LD_LIBRARY_PATH": os.pathsep.join([str(stand_in), os.environ.get("LD_LIBRARY_PATH", "")]),
        # They come before any that onnxruntime.preload_dlls finds beside the headers.
        "LD_PRELOAD": " ".join(names),
    }


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


def rest_of(names: Iterable[str], computes: bool = False) -> str:
    """C++ of functions that the sources don't have; each passes for any arguments."""
    declared = ["int cuda_stand_in_record(const char *, const char *);"]
    declared += ["int cuda_stand_in_lacks(const char *);"]
    functions = [f"int {name}{_body(name, computes)}" for name in names]
    return "\n".join(["#include <cstdlib>", 'extern "C" {', *declared, *functions, "}", ""])


def _body(name: str, computes: bool) -> str:
    if PRODUCT.search(name) and not computes:
        return f'() {{ return cuda_stand_in_record("product", "{name}"); }}'
    if HANDLE.search(name):
        return "(void **handle) { *handle = std::calloc(1, 64); return 0; }"
    if SUCCEEDS.search(name):
        return "() { return 0; }"
    return f'() {{ return cuda_stand_in_lacks("{name}"); }}'


def version_script(wanted: dict[str, list[str]]) -> str:
    """The linker's map of versions: CUDA's are the libraries' names."""
    nodes = [_node(name, functions) for name, functions in wanted.items() if name != DRIVER]
    return "".join(nodes)


def _node(version: str, names: Iterable[str]) -> str:
    lines = "".join(f"  {name};\n" for name in names)
    return f"{version} {{\n{lines}}};\n"


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
        raise MissingError(f"{name} is missing: install g++ and binutils")
    return found


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout
