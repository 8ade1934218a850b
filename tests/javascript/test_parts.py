"""The JavaScript decoding loop's parts under Node, against numpy's and Python's own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

import gpt2onnx
from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.samplers.chain.sampler import Sampler
from gpt2onnx.samplers.draw import generator

JS = Path(__file__).parent.parent.parent / "js"
pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="Node.js isn't installed")
TEXTS = [
    "def main():\n    print('it's — naïve')  # 世界 🌍\r\n\n\n",
    "  leading,   inner  and trailing   ",
    "we'll they're I'D x1y22 $1,200.50 ²½ Ⅳ",
    "a<|endoftext|>b <|endoftext|>",
    "\u00a0\u2003x\ufeffy\u0085z\x1c!\x00",
    "",
]


def node(script: str, given: Any) -> Any:
    """What a module prints as JSON, which has `given` and imports from js/."""
    code = f"const given = {json.dumps(given)};\n{script}"
    done = subprocess.run(
        ["node", "--input-type=module", "-"],
        input=code,
        cwd=JS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_random_numbers_are_numpys() -> None:
    seeds = [(0, 0), (7, 0), (7, 3), (2**32 - 1, 1), (2**32, 0), (2**53 - 1, 2**32 + 5)]
    found = node(
        "import { generator } from './random.js';"
        "console.log(JSON.stringify(given.map(([seed, index]) => {"
        "  const random = generator(seed, index); return Array.from({ length: 9 }, random); })))",
        seeds,
    )
    for (seed, index), numbers in zip(seeds, found, strict=True):
        assert numbers == generator(seed, index).random(9).tolist()


def test_a_seed_of_any_size() -> None:
    seed = 3**200
    found = node(
        "import { generator } from './random.js';"
        "console.log(JSON.stringify(Array.from({ length: 5 }, generator(BigInt(given)))))",
        str(seed),
    )
    assert found == generator(seed, 0).random(5).tolist()


def test_the_tokens_are_tokenizers() -> None:
    path = CHECKPOINT / "tokenizer.json"
    reference = tokenizers.Tokenizer.from_file(str(path))
    found = node(
        "import { readFileSync } from 'fs'; import { Tokenizer } from './tokenizer.js';"
        "const tokenizer = new Tokenizer(JSON.parse(readFileSync(given.path, 'utf8')));"
        "const back = (ids) => Buffer.from(ids.flatMap((id) => tokenizer.bytesOf(id))).toString();"
        "console.log(JSON.stringify(given.texts.map((text) => {"
        "  const ids = tokenizer.encode(text); return [ids, back(ids)]; })))",
        {"path": str(path), "texts": TEXTS},
    )
    for text, (ids, back) in zip(TEXTS, found, strict=True):
        assert ids == reference.encode(text).ids
        assert back == reference.decode(ids)


DRAWS = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.9, "top_k": 7},
    {"top_k": 0},
    {"top_k": 0, "top_p": 0.9},
    {"temperature": 0.5, "top_k": 40, "top_p": 0.3},
]


@pytest.mark.parametrize("options", DRAWS)
def test_the_draws_are_pythons(options: dict[str, float]) -> None:
    rng = np.random.default_rng(3)
    rows = (rng.standard_normal((40, 700)) * 3).astype(np.float32)
    rows[:, ::50] = np.float32(4.5)  # ties at the border
    rows[:, 3] = -np.inf
    params = GenerationParams(do_sample=True, seed=11, **options)
    sampler = Sampler(params, 0, 0, generator(11, 0))
    history = np.empty(0, np.int64)
    expected = [sampler(history, row) for row in rows]
    found = node(
        "import { parameters, sampler } from './sampler.js';"
        "const choose = sampler(parameters({ do_sample: true, seed: 11, ...given.options }));"
        "const value = (x) => (x === null ? -Infinity : x);"
        "console.log(JSON.stringify("
        "  given.rows.map((row) => choose(Float32Array.from(row, value)))))",
        {
            "options": options,
            "rows": [[None if x == -np.inf else float(x) for x in row] for row in rows],
        },
    )
    assert found == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_p": 0.5}, "top_p=0.5: expected do_sample=true with it"),
        ({"do_sample": True, "temperature": 0}, "temperature=0: expected a number above 0"),
        ({"do_sample": True, "seed": -1}, "seed=-1: expected a whole number from 0 up"),
        ({"typical_p": 0.5}, "typical_p=0.5: expected one of max_new_tokens, min_new_tokens"),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], message: str) -> None:
    found = node(
        "import { parameters } from './sampler.js';"
        "try { parameters(given); } catch (error) { console.log(JSON.stringify(error.message)); }",
        options,
    )
    assert found.startswith(message)


def test_the_version_is_pythons() -> None:
    assert json.loads((JS / "package.json").read_text())["version"] == gpt2onnx.__version__
