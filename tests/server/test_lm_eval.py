"""lm-evaluation-harness, unmodified, by its local-completions: what `lm_eval` on the PATH is.

It wants other versions of some packages than these tests; an environment of its own has it:
pip install 'lm_eval[api]>=0.4.9' 'datasets<4.5' transformers torch
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx import Model
from tests.server.conftest import Running

LM_EVAL = shutil.which("lm_eval")
DOCUMENTS = [
    {"q": "import os\nimport", "choices": [" sys", " os", " banana"], "answer": 0},
    {"q": "def f(self):\n    return", "choices": [" self", " None", " a zebra"], "answer": 0},
    {"q": "for i in range(", "choices": ["10):", "len(", "x"], "answer": 1},
]
TASK = """\
task: local_task
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
target_delimiter: ""
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}]
"""


@pytest.mark.slow
@pytest.mark.skipif(not LM_EVAL, reason="no lm_eval on the PATH")
def test_loglikelihoods(server: Running, model: Model, tmp_path: Path) -> None:
    for sample in samples(server, model, tmp_path):
        for (prompt, end), (found, is_greedy) in sample:
            ids = model.token_ids(prompt + end).tolist()
            count = len(ids) - len(model.token_ids(prompt))
            expected = sum(model.score(ids, add_bos=False).logprobs[-count:])
            greedy = model.generate(ids[:-count], max_new_tokens=count, eos_token_id=[])
            assert found == pytest.approx(expected, abs=1e-6)
            assert is_greedy == (greedy.token_ids == ids[-count:])


def samples(server: Running, model: Model, folder: Path) -> list[list[tuple[Any, Any]]]:
    """For each document the texts that were asked for, and what the harness made of them."""
    documents, task = folder / "documents.jsonl", folder / "local_task.yaml"
    documents.write_text("\n".join(map(json.dumps, DOCUMENTS)))
    task.write_text(TASK.replace("FILE", str(documents)))
    about = {
        "model": "demo",
        "base_url": f"{server.url}/v1/completions",
        "tokenizer": str(model.folder.path),
    }
    arguments = ",".join(f"{name}={value}" for name, value in about.items())
    command = [str(LM_EVAL), "--model", "local-completions", "--model_args", arguments]
    command += ["--batch_size", "4"]
    command += ["--tasks", "local_task", "--include_path", str(folder)]
    command += ["--log_samples", "--output_path", str(folder / "out")]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "home")}
    subprocess.run(command, env=os.environ | offline, check=True, cwd=folder, timeout=300)
    (log,) = (folder / "out").rglob("samples_*.jsonl")
    found = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(found) == len(DOCUMENTS)
    return [
        [
            ((asked["arg_0"], asked["arg_1"]), (float(logprob), str(greedy) == "True"))
            for asked, (logprob, greedy) in zip(
                sample["arguments"].values(), sample["filtered_resps"], strict=True
            )
        ]
        for sample in found
    ]
