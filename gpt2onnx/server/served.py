"""The models that are served, by their names."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from gpt2onnx.errors import ParameterError, RequestError, shown
from gpt2onnx.runtime.model import Model
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.samplers.params.rules import DRAFT_EXCLUDES
from gpt2onnx.server.chat_template import ChatTemplate, find_template
from gpt2onnx.server.constraints import Constraints
from gpt2onnx.server.fields import text
from gpt2onnx.server.token_texts import TokenTexts
from gpt2onnx.server.tokenizer_info import tokenizer_info
from gpt2onnx.serving.engine import Engine

# The field by which a request says whose it is.
MODEL = text("The model's name; may be left out where one is served.")


class Served:
    """A model under a name, with its engine, and the draft that guesses ahead for it if any."""

    def __init__(self, name: str, engine: Engine, draft: Model | None = None) -> None:
        """Raises ParameterError for a draft that doesn't fit."""
        self.name, self.engine, self.model, self.draft = name, engine, engine.model, draft
        if draft:
            self.model.call([], draft=draft)
        self.created = int(time.time())
        self.tokens = TokenTexts(self.model.tokenizer)
        self.template: ChatTemplate | None = find_template(self.model.folder.path)
        source = self.template.source if self.template else None
        self.tokenizer_info = tokenizer_info(self.model, source)
        self.constraints = Constraints(self.model)

    def draft_for(self, params: GenerationParams) -> Model | None:
        """The draft where a request can have one: it changes when tokens come, and not which."""
        if self.draft:
            with suppress(ParameterError):
                params.check_beside(DRAFT_EXCLUDES)
                return self.draft
        return None

    def close(self) -> None:
        """End what it started beside its engine."""
        self.constraints.close()

    def listed(self) -> dict[str, object]:
        """As /v1/models lists it."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "gpt2onnx",
            "max_model_len": self.model.decoder.n_positions,
        }


class ServedModels:
    """All of them."""

    def __init__(self, models: Iterable[Served]) -> None:
        self._models = {each.name: each for each in models}

    def __iter__(self) -> Iterator[Served]:
        return iter(self._models.values())

    def find(self, name: str | None) -> Served:
        """The one of a name; the only one without. Raises RequestError."""
        if name is None and len(self._models) == 1:
            return next(iter(self))
        if name is None or name not in self._models:
            listed = ", ".join(shown(each) for each in self._models)
            raise RequestError(
                f"the model {shown(name)} does not exist: expected one of {listed}",
                404 if name is not None else 400,
                param="model",
                code="model_not_found",
            )
        return self._models[name]
