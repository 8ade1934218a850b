"""Plugin providers as they are published: a text of ours, or the reason why there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import gpt2onnx
from gpt2onnx.demo import CHECKPOINT
from tests.runtimes.environments import ROOT, python_of, said

pytestmark = pytest.mark.slow
CODE = """
import sys
sys.path.insert(0, sys.argv[3])
import gpt2onnx
from gpt2onnx.errors import ProviderError
try:
    model = gpt2onnx.load(sys.argv[1], provider=sys.argv[2])
    print(model.generate("def main():", max_new_tokens=20).text)
except ProviderError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize("provider", ["openvino", "webgpu"])
def test_it_writes_our_text_or_says_which_devices_there_are(provider: str, tmp_path: Path) -> None:
    """OpenVINO's wants a processor of Intel's, WebGPU's a GPU."""
    python = python_of("plugins")
    options = {"graph": "portable", "verify": False}
    folder = gpt2onnx.export(CHECKPOINT, tmp_path / "m", **options).folder
    run = ("-c", CODE, folder)
    found = said(python, *run, provider, str(ROOT), cwd=tmp_path)
    if found.startswith("refused:"):
        begins = f"refused: onnxruntime-ep-{provider} offers no device here; ONNX Runtime sees CPU"
        assert found.startswith(begins)
    else:
        assert found == said(Path(sys.executable), *run, "cpu", str(ROOT), cwd=tmp_path)
