"""What /tokenizer_info tells of a model's tokenizer, as vLLM does: its tokenizer_config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpt2onnx.errors import ModelFolderError
from gpt2onnx.files import read_json
from gpt2onnx.runtime.model import Model


def tokenizer_info(model: Model, chat_template: str | None) -> dict[str, Any]:
    """The settings, as a tokenizer of transformers would have them. Raises ModelFolderError."""
    file: Path = model.folder.path / "tokenizer_config.json"
    found = read_json(file, ModelFolderError) if file.exists() else _settings(model)
    if not isinstance(found.get("tokenizer_class"), str):
        found["tokenizer_class"] = "PreTrainedTokenizerFast"
    if chat_template is not None:
        found["chat_template"] = chat_template
    return found


def _settings(model: Model) -> dict[str, Any]:
    """What the model's own config tells, where there are none."""
    ids = {name: model.folder.config.get(f"{name}_token_id") for name in ("bos", "eos")}
    tokens = {
        f"{name}_token": model.tokenizer.id_to_token(id_)
        for name, id_ in ids.items()
        if isinstance(id_, int) and id_ >= 0
    }
    return {**tokens, "model_max_length": model.decoder.n_positions}
