"""Model: a folder, its tokenizer and its decoder; generate, stream and score.

Where text becomes tokens and tokens become text. Knows no graph, and of samplers their parameters.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, overload

import numpy as np
import tokenizers

from gpt2onnx.errors import ModelFolderError, ParameterError, PromptError
from gpt2onnx.runtime.decoder import Decoder, Logits
from gpt2onnx.runtime.folder import ModelFolder, open_folder
from gpt2onnx.runtime.fused import FusedDecoder
from gpt2onnx.runtime.generation import Continuation, run
from gpt2onnx.runtime.portable import PortableDecoder
from gpt2onnx.runtime.prompts import Prompt, PromptReader, is_batch
from gpt2onnx.runtime.results import Alternative, Generation, Score, Token
from gpt2onnx.runtime.scoring import score
from gpt2onnx.runtime.session import Session, open_session
from gpt2onnx.runtime.writer import Writer
from gpt2onnx.samplers import GenerationParams, defaults_from_generation_config, top_logprobs

# What transformers' GPT2Config has where config.json is silent.
GPT2_END_OF_TEXT = 50256


class Model:
    """An open model folder. For one thread at a time."""

    def __init__(
        self,
        folder: ModelFolder,
        tokenizer: tokenizers.Tokenizer,
        decoder: Decoder[Any],
        session: Session,
    ) -> None:
        self.folder = folder
        self.tokenizer = tokenizer
        self.decoder = decoder
        self.session = session
        self.defaults = _defaults(folder)
        self._prompts = PromptReader(
            tokenizer, decoder.vocab_size, decoder.n_positions, _special(folder, "bos_token_id")
        )

    def __repr__(self) -> str:
        return f"Model({str(self.folder.path)!r}, provider={self.session.provider!r})"

    @overload
    def generate(self, prompt: Prompt, **parameters: Any) -> Generation: ...
    @overload
    def generate(self, prompt: Sequence[Prompt], **parameters: Any) -> list[Generation]: ...

    def generate(self, prompt: Any, *, top_logprobs: int = 0, **parameters: Any) -> Any:
        """Write on from a prompt: a text, token ids, or a list of either, which share each step.

        `parameters` are GenerationParams' fields, transformers' names; the model's own
        generation_config.json has what isn't given. `top_logprobs` asks for that many alternatives
        to each token.

        Gives a Generation for a prompt, a list of them with num_return_sequences above 1, and for a
        list of prompts the list of what each one gives.

        Errors: ParameterError, PromptError and its kinds.
        """
        params = self.params(parameters)
        self._check_alternatives(top_logprobs)
        batch = is_batch(prompt)
        writers = self._writers(prompt if batch else [prompt], params)
        written = [Generation(writer.sequence.prompt.tolist()) for writer in writers]
        with closing(self._write(writers, params.max_time, top_logprobs)) as tokens:
            for sequence, token in tokens:
                written[sequence].add(token)
        results = _grouped(written, params.num_return_sequences)
        return results if batch else results[0]

    def stream(
        self, prompt: Prompt, *, top_logprobs: int = 0, **parameters: Any
    ) -> Generator[Token, None, None]:
        """Write on from one prompt, and give each token as it comes; parameters as `generate`'s.

        The pieces of text joined are the whole text. Closing the iterator early frees its memory.

        Errors: as `generate`, by this call; what comes of running the model, by the iterator.
        """
        params = self.params(parameters)
        self._check_alternatives(top_logprobs)
        if is_batch(prompt) or params.num_return_sequences > 1:
            raise ParameterError(
                "stream writes one sequence of one prompt: use generate for several"
            )
        writers = self._writers([prompt], params)
        return self._stream(writers, params.max_time, top_logprobs)

    def score(self, text: Prompt, *, add_bos: bool = True) -> Score:
        """The log-probability of each token of a text, or of token ids.

        With `add_bos` the text stands behind a BOS token, so that its first token is scored as
        well; without, or where it is BOS, its first token is only context. A text longer than the
        model is read in overlapping windows.

        Errors: PromptError where no token is left to be scored.
        """
        ids = self._prompts.encode(text)
        if not len(ids):
            raise PromptError("nothing to score: the text is empty")
        if add_bos and ids[0] != (start := self._prompts.start())[0]:
            ids = np.concatenate([start, ids])
        if len(ids) < 2:
            raise PromptError("nothing to score: one token alone, with none before it")
        scored = ids[1:].tolist()
        text_bytes = len(self.tokenizer.decode(scored, skip_special_tokens=False).encode())
        return Score(scored, score(self.decoder, ids).tolist(), text_bytes)

    def params(self, given: Mapping[str, Any]) -> GenerationParams:
        """The parameters of a call, over the model's own defaults. Errors: ParameterError."""
        params = GenerationParams.create(given, self.defaults)
        params.check_vocabulary(self.decoder.vocab_size)
        return params

    def _writers(self, prompts: Sequence[Prompt], params: GenerationParams) -> list[Writer]:
        """One for each sequence of each prompt. Errors: PromptError, ParameterError."""
        ids = [self._prompts.fit(self._prompts.read(prompt), params) for prompt in prompts]
        draws = [(prompt, draw) for prompt in ids for draw in range(params.num_return_sequences)]
        return [
            Writer(self.tokenizer, params, prompt, index, draw)
            for index, (prompt, draw) in enumerate(draws)
        ]

    def _stream(
        self, writers: Sequence[Writer], max_time: float | None, top: int
    ) -> Generator[Token, None, None]:
        with closing(self._write(writers, max_time, top)) as tokens:
            for _, token in tokens:
                yield token

    def _write(
        self, writers: Sequence[Writer], max_time: float | None, top: int
    ) -> Generator[tuple[int, Token], None, None]:
        """The tokens of all sequences as steps complete: (sequence, token)."""
        sequences = [writer.sequence for writer in writers]
        self._reserve(sequences)
        with closing(run(self.decoder, sequences, max_time)) as steps:
            for step in steps:
                text = writers[step.sequence].take(last=step.finish_reason is not None)
                alternatives = self._alternatives(step.logits, top)
                yield (
                    step.sequence,
                    Token(step.token_id, text, step.logprob, step.finish_reason, alternatives),
                )

    def _reserve(self, sequences: Sequence[Continuation]) -> None:
        if sequences:
            longest = max(len(s.prompt) + s.params.max_new_tokens for s in sequences)
            self.decoder.reserve(len(sequences), min(longest, self.decoder.n_positions))

    def _check_alternatives(self, count: int) -> None:
        vocab = self.decoder.vocab_size
        if not isinstance(count, int) or not 0 <= count <= vocab:
            raise ParameterError(
                f"top_logprobs={count!r}: expected an integer from 0 to {vocab}, the model's "
                "vocabulary"
            )

    def _alternatives(self, logits: Logits, count: int) -> tuple[Alternative, ...]:
        if not count:
            return ()
        ids, logprobs = top_logprobs(logits, count)
        return tuple(
            Alternative(token, self.tokenizer.decode([token], skip_special_tokens=False), logprob)
            for token, logprob in zip(ids.tolist(), logprobs.tolist(), strict=True)
        )


def _grouped(written: list[Generation], count: int) -> list[Any]:
    """By prompt, where each has several sequences."""
    if count == 1:
        return written
    return [written[start : start + count] for start in range(0, len(written), count)]


def load(
    folder: str | Path,
    provider: str = "auto",
    provider_options: Mapping[str, object] | None = None,
    threads: int | None = None,
) -> Model:
    """Open a model folder, one of `gpt2onnx export` or of Optimum's.

    provider: "auto" (CUDA where it runs, else the CPU), "cpu", "cuda", or any ONNX Runtime
    provider's name, with its `provider_options`. threads: for the CPU; by default what the process
    may use.

    Errors: ModelFolderError, CorruptModelError, ProviderError, InstallationError.
    """
    opened = open_folder(folder)
    opened.check_hashes_once()
    session = open_session(opened.graph, provider, provider_options, threads)
    decoder = open_decoder(opened, session)
    return Model(opened, _open_tokenizer(opened, decoder.vocab_size), decoder, session)


def open_decoder(folder: ModelFolder, session: Session) -> Decoder[Any]:
    """The decoder for a folder's graph, recognised by its inputs. Errors: ModelFolderError."""
    if "seqlens_k" in session.inputs:
        return FusedDecoder(session, folder.n_positions)
    return PortableDecoder(session, folder.n_positions)


def _open_tokenizer(folder: ModelFolder, vocab_size: int) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder.tokenizer))
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelFolderError(f"{folder.tokenizer}: can't be read: {error}") from error
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= vocab_size:
        raise ModelFolderError(
            f"{folder.tokenizer}: has a token {largest}, the model's vocabulary ends at "
            f"{vocab_size - 1}: the tokenizer is another model's"
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _defaults(folder: ModelFolder) -> dict[str, Any]:
    """What the checkpoint's own settings say of generation."""
    eos = {"eos_token_id": folder.config.get("eos_token_id", GPT2_END_OF_TEXT)}
    return {**eos, **defaults_from_generation_config(folder.generation_config)}


def _special(folder: ModelFolder, name: str) -> int | None:
    for settings in (folder.generation_config, folder.config):
        if name in settings:
            value: int | None = settings[name]
            return value
    return GPT2_END_OF_TEXT
