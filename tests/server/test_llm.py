"""llm (https://llm.datasette.io), unmodified, by its configuration file: what `llm` on the PATH is.

An environment of its own has it: pip install llm==0.36
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import gpt2onnx
from gpt2onnx import Model
from tests.server.conftest import Running, serving

LLM = shutil.which("llm")
MODELS = """\
- {model_id: ours, model_name: chat, api_base: URL/v1}
- {model_id: ours-completion, model_name: chat, api_base: URL/v1, completion: true}
"""
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not LLM, reason="no llm on the PATH"),
]


@pytest.fixture(scope="module")
def chat(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("llm") / "model"
    shutil.copytree(model.folder.path, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    with serving({"chat": gpt2onnx.load(folder, threads=1)}) as running:
        yield running


@pytest.mark.parametrize("stream", [(), ("--no-stream",)], ids=["stream", "whole"])
@pytest.mark.parametrize("name", ["ours", "ours-completion"])
def test_it_prints_what_the_model_writes(
    chat: Running, tmp_path: Path, name: str, stream: tuple[str, ...]
) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS.replace("URL", chat.url))
    command = [str(LLM), "-m", name, "--key", "none", "import os\n", *stream]
    command += ["-o", "temperature", "0", "-o", "max_tokens", "12"]
    ran = subprocess.run(
        command,
        env=os.environ | {"LLM_USER_PATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    prompt = "user: import os\n\nassistant:" if name == "ours" else "import os\n"
    expected = chat.models[0].model.generate(prompt, max_new_tokens=12).text
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.strip() == expected.strip()
