"""Checkpoint in, model folder out. Needs onnx; torch only to verify.

The package is callable, so that `gpt2onnx.export(source, out)` is the function whether or not a
module of this package was imported before.
https://docs.python.org/3/reference/datamodel.html#customizing-module-attribute-access
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from gpt2onnx.errors import InstallationError

try:
    import huggingface_hub  # noqa: F401
    import onnx  # noqa: F401
    import tqdm  # noqa: F401
except ImportError as error:
    raise InstallationError(
        f"exporting needs {error.name}, which isn't installed: pip install 'gpt2onnx[export]'",
        name=error.name,
    ) from error

from gpt2onnx.export.exporter import Export, export

__all__ = ["Export", "export"]


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Export:
        return export(*args, **kwargs)


_Callable.__call__.__doc__ = export.__doc__
sys.modules[__name__].__class__ = _Callable
