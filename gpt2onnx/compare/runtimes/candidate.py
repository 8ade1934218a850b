"""A model folder on another runtime: its answers, and its speed.

Each is a job of its own, so a process of its own. Knows what is asked and how it is compared;
knows nothing of how a runtime is started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tokenizers

from gpt2onnx.compare.measure.answers import (
    Answered,
    Expected,
    agreement_of,
    parting,
    require_finite,
)
from gpt2onnx.compare.measure.speed import speed_of
from gpt2onnx.compare.measure.texts import same_but_for_a_near_tie
from gpt2onnx.compare.record.answers import Agreement, Parting, Program, Same
from gpt2onnx.compare.record.runs import Energy, Memory, Speed
from gpt2onnx.compare.runtimes.job import Job, Text, UnavailableError, Written, Wrote, graph_of
from gpt2onnx.compare.runtimes.table import Runtime
from gpt2onnx.runtime.decoder.protocol import Ids, Logits
from gpt2onnx.runtime.folder.model_folder import ModelFolder

# Does a job where its runtime is installed. Raises UnavailableError, with the reason.
Write: TypeAlias = Callable[[Job], Written]
NO_ENERGY = Energy(None, None, {"cpu": "it isn't measured of other runtimes"})


class Told(NamedTuple):
    """What a runtime answers. No agreement where it shows no logits."""

    program: Program
    texts: list[Same | Parting]
    agreement: Agreement | None


@dataclass(frozen=True)
class Candidate:
    """A folder on a runtime. `options` are the runtime's own. Methods raise UnavailableError."""

    runtime: Runtime
    folder: ModelFolder
    threads: int
    write: Write
    options: Mapping[str, Any] = field(default_factory=dict)

    def answers(
        self, expected: Sequence[Expected], tokenizer: tokenizers.Tokenizer, work: Path
    ) -> Told:
        """Beside a reference's; logits go through files in the folder `work`.

        Raises ProviderError where logits aren't numbers.
        """
        numbers = range(len(expected) if self.runtime.gives_logits else 0)
        kept = [work / f"{self.runtime.name}-{number}.f4" for number in numbers]
        made = self._made([*map(_free, expected), *map(_along, expected, kept)])
        wrote = [_ids(*pair) for pair in zip(expected, made.texts, strict=False)]
        texts = [parting(tokenizer, *pair) for pair in zip(expected, wrote, strict=True)]
        agreement = None
        if kept:
            logits = map(self._logits, expected, kept)
            agreement = agreement_of(tokenizer, map(Answered, expected, logits, wrote))
        return Told(self._program(made), texts, agreement)

    def speed(self, ids: list[list[int]], count: int, work: Path) -> tuple[Program, Speed]:
        """Of prompts ids [batch, n] and `count` tokens behind each; all is written once before.

        The last of several rows must be what is written of it alone, near-ties apart.
        """
        batch, kept = len(ids), work / f"{self.runtime.name}-alone.f4"
        timed = Text(ids, count)
        alone = Text(ids[-1:], count, logits=str(kept) if self.runtime.gives_logits else None)
        made = self._made([timed, timed] if batch == 1 else [timed, timed, alone])
        if batch > 1:
            self._check_row(made, kept)
        first, *steps = made.texts[1].times
        held = Memory(made.resident_bytes, made.anonymous_bytes, device_bytes=None)
        return self._program(made), speed_of(made.load_s, first, steps, batch, held, NO_ENERGY)

    def _check_row(self, made: Written, kept: Path) -> None:
        """Raise UnavailableError where a batch's last row isn't that row alone, sure of itself."""
        batch, alone = made.texts[1].tokens, made.texts[2].tokens[0]
        logits = np.fromfile(kept, np.float32).reshape(len(alone), -1) if kept.exists() else None
        kept.unlink(missing_ok=True)
        if not same_but_for_a_near_tie(alone, batch[-1], logits):
            raise UnavailableError(
                f"wrong at batch {len(batch)}: row {len(batch)} isn't what it writes of it alone"
            )

    def _made(self, texts: list[Text]) -> Written:
        graph, data = graph_of(self.folder)
        return self.write(
            Job(
                runtime=self.runtime.name,
                folder=str(self.folder.path.resolve()),
                graph=graph,
                data=data,
                threads=self.threads,
                texts=texts,
                options={**self._settings(), **self.options},
            )
        )

    def _settings(self) -> Mapping[str, Any]:
        """transformers.js is told which of a folder's graphs to take, and in Node, where to run."""
        if self.runtime.gives_logits:
            return {}
        own = self.folder.config.get("transformers.js_config")
        if not isinstance(own, dict) or "dtype" not in own:
            raise UnavailableError(
                f"{self.folder.path}: config.json names no dtype of {self.runtime.name}: export it "
                "with `--for transformers.js`"
            )
        device = {"device": "cpu"} if self.runtime.starter == "node" else {}
        return {"dtype": own["dtype"], **device}

    def _logits(self, expected: Expected, kept: Path) -> Logits:
        """What was kept along a text, [n, vocab]; the file is gone then. Raises ProviderError."""
        if not kept.exists():
            raise UnavailableError("it kept no logits along a text")
        found: Logits = np.fromfile(kept, np.float32)
        kept.unlink()
        if found.size != expected.logits.size:
            raise UnavailableError(
                f"it gives {found.size} logits along a text: expected {expected.logits.size}"
            )
        require_finite(found, self.runtime.name)
        return found.reshape(expected.logits.shape)

    def _program(self, made: Written) -> Program:
        return Program(made.version, (self.folder.manifest or {}).get("graph"))


def _free(expected: Expected) -> Text:
    """The runtime's own tokens behind the prompt, as many as the reference wrote."""
    return Text([expected.text[: expected.prompt].tolist()], len(expected.written))


def _along(expected: Expected, kept: Path) -> Text:
    """The reference's whole text, token by token, with the logits after each."""
    first, *rest = expected.text.tolist()
    return Text([[first]], len(expected.text), rest, str(kept))


def _ids(expected: Expected, text: Wrote) -> Ids:
    count, (tokens,) = len(expected.written), text.tokens
    if len(tokens) != count:
        raise UnavailableError(f"it wrote {len(tokens)} tokens: expected {count}")
    return np.array(tokens, np.int64)
