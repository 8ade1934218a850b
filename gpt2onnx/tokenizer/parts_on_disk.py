"""A byte-pair tokenizer in files that the library opens faster than its tokenizer.json.

Of that one it makes a tree of JSON values, and of the tree a model: 85 ms for GPT-2's 50,257
tokens. From GPT-2's first form, vocab.json and merges.txt, it takes 50. The rest, which is small,
stays a tokenizer.json.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import BPE

from gpt2onnx.errors import Gpt2OnnxError
from gpt2onnx.files import read_text
from gpt2onnx.tokenizer.library import library_errors

VOCABULARY, MERGES, REST = "vocab.json", "merges.txt", "rest.json"
# What those two files hold of a model; its other fields are keywords of BPE's.
_IN_FILES = ("type", "vocab", "merges")


def save_parts(tokenizer: Tokenizer, folder: Path, error: type[Gpt2OnnxError]) -> str | None:
    """Write a tokenizer into an empty folder; or say why `from_parts` wouldn't give it back.

    Raises `error`.
    """
    whole = tokenizer.to_str()
    rest = json.loads(whole)
    if rest["model"]["type"] != "BPE":
        return f"the tokenizer is no BPE, but {rest['model']['type']}"
    added = {token["content"]: token["id"] for token in rest["added_tokens"]}
    # Added tokens look for their ids in the model.
    rest["model"] |= {"vocab": added, "merges": []}
    with library_errors(error, f"{folder}: can't be written", folder):
        tokenizer.model.save(str(folder))
    (folder / REST).write_text(json.dumps(rest), encoding="utf-8")
    try:
        same = from_parts(folder, error).to_str() == whole
    except Gpt2OnnxError as cause:
        return str(cause)
    return None if same else "read from its parts the tokenizer would be another one"


def from_parts(folder: Path, error: type[Gpt2OnnxError]) -> Tokenizer:
    """The tokenizer that was written there. Raises `error`."""
    rest = read_text(folder / REST, error)
    with library_errors(error, f"{folder}: can't be read as a tokenizer", folder):
        tokenizer = Tokenizer.from_str(rest)
        model = json.loads(rest)["model"]
        settings = {k: v for k, v in model.items() if k not in _IN_FILES and v is not None}
        files = str(folder / VOCABULARY), str(folder / MERGES)
        tokenizer.model = BPE.from_file(*files, **settings)
    return tokenizer
