"""Model: a folder, its tokenizer and its decoder; generate, stream and score.

Where text becomes tokens and tokens become text. Knows no graph, and of samplers their parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, overload

import tokenizers

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.runtime.decoder.cache_size import cache_bytes_per_token
from gpt2onnx.runtime.decoder.protocol import Decoder, Ids
from gpt2onnx.runtime.decoding import beam_writer, ranking
from gpt2onnx.runtime.decoding.assistance import Assistance, Draft, check_no_draft
from gpt2onnx.runtime.decoding.beams import Observer, check_observer
from gpt2onnx.runtime.decoding.contrastive import Contrastive, contrastive_of
from gpt2onnx.runtime.decoding.guidance import Guidance, guidance_of
from gpt2onnx.runtime.decoding.lookahead.lookahead import Lookahead, lookahead_of
from gpt2onnx.runtime.decoding.plain import Continuation, run
from gpt2onnx.runtime.decoding.scoring import score
from gpt2onnx.runtime.decoding.speculation import Speculation
from gpt2onnx.runtime.decoding.top_tokens import TopTokens
from gpt2onnx.runtime.decoding.writer import Writer
from gpt2onnx.runtime.folder.model_folder import ModelFolder
from gpt2onnx.runtime.machine.room import Room
from gpt2onnx.runtime.open_model import bos_token_id, generation_defaults, open_model
from gpt2onnx.runtime.ort.load_params import check_load
from gpt2onnx.runtime.ort.session import Session
from gpt2onnx.runtime.results import Generation, Score, Token
from gpt2onnx.runtime.structured.grammars import GrammarCompiler
from gpt2onnx.runtime.text.dry_breakers import BreakerFinder
from gpt2onnx.runtime.text.prompts import Prompt, PromptReader, as_batch, is_batch
from gpt2onnx.samplers import GenerationParams, entropy
from gpt2onnx.samplers.params import DRAFTS
from gpt2onnx.samplers.params.rules import STREAM_EXCLUDES
from gpt2onnx.samplers.params.values import flag
from gpt2onnx.tokenizer.codec import decode

Strategy: TypeAlias = Speculation | Lookahead | Guidance | Contrastive


class Model:
    """An open model folder.

    Threads may share it: their calls take turns step by step, so that streams of several threads
    interleave, and each gets what it gets alone.
    """

    def __init__(
        self,
        folder: ModelFolder,
        tokenizer: tokenizers.Tokenizer,
        decoder: Decoder[Any],
        session: Session,
        open_draft: Callable[[str | Path], Model] | None = None,
    ) -> None:
        self.folder = folder
        self.tokenizer = tokenizer
        self.decoder = decoder
        self.session = session
        self.defaults = generation_defaults(folder)
        bos = bos_token_id(folder.generation_config or {}, folder.config)
        self._prompts = PromptReader(tokenizer, decoder.vocab_size, decoder.n_positions, bos)
        # On another device it isn't the machine's memory that the cache takes.
        token_bytes = cache_bytes_per_token(session.inputs) * session.runs_on.in_host_memory
        self._room = Room(token_bytes, decoder.vocab_size, decoder.n_positions)
        self._breakers = BreakerFinder(tokenizer, decoder.vocab_size)
        self._assistance = Assistance(self, open_draft or load)
        self._grammars = GrammarCompiler(tokenizer, decoder.vocab_size)

    def __repr__(self) -> str:
        return f"Model({str(self.folder.path)!r}, provider={self.session.provider!r})"

    @overload
    def generate(
        self,
        prompt: Prompt,
        *,
        draft: Draft | None = None,
        negative_prompt: Prompt | None = None,
        **parameters: Any,
    ) -> Generation: ...
    @overload
    def generate(
        self,
        prompt: Sequence[Prompt],
        *,
        draft: Draft | None = None,
        negative_prompt: Prompt | None = None,
        **parameters: Any,
    ) -> list[Generation]: ...

    def generate(
        self,
        prompt: Any,
        *,
        draft: Draft | None = None,
        negative_prompt: Prompt | None = None,
        top_logprobs: int = 0,
        prompt_logprobs: bool = False,
        observe: Observer | None = None,
        **parameters: Any,
    ) -> Any:
        """Write on from a prompt: a text, token ids, or a list of either, which share each step.

        `parameters` are GenerationParams' fields, transformers' names; the model's own
        generation_config.json has what isn't given. `top_logprobs` asks for that many alternatives
        to each token, before and after penalties and warpers (beams: before), `prompt_logprobs` for
        the log-probabilities of the prompt's tokens, which reads each prompt once more and costs
        what `score` does. `draft` is a smaller model with the
        same tokenizer, open or its folder, which stays open then ("demo-draft" is the bundled
        model's): it guesses ahead, and the text comes sooner (prompt_lookup_num_tokens and
        lookahead_window_size guess without one); what comes, `speculation` explains, is the same.
        `negative_prompt` is what guidance_scale leads away from, one for all prompts, a text or
        ids; without it that is the model's own bent, told by each prompt's last token alone.
        `observe` is told of every step of a beam search.

        best_of draws that many and gives the num_return_sequences best of them, best first, by the
        mean log-probability of a token, the model's own. return_alternatives begins them with the
        most probable tokens that penalties and constraints leave, the best one first.

        Gives a Generation for a prompt, a list of them with num_return_sequences above 1 (of beams
        the best ones first, fewer where constraints leave fewer), and for a list of prompts the
        list of what each one gives.

        `stop_fn(sequence_index, history)` is asked after each token but an end token and one that
        completes a stop string or a form, and told all of the sequence's tokens, prompt and new;
        where it says True the token is the last: finish_reason is "stopped", and the other
        sequences go on.

        regex, json_schema, grammar or choices hold the text to a form. It ends when it is complete:
        finish_reason is "eos" or "stop" then, and otherwise a limit cut it short.

        Errors: ParameterError, PromptError and its kinds; OutOfMemoryError before anything is
        written where the sequences don't fit into memory; InstallationError where a form is asked
        for and llguidance is missing.
        """
        params, strategy = self._understand(draft, negative_prompt, parameters)
        top = TopTokens(self.tokenizer, self.decoder.vocab_size, top_logprobs)
        flag("prompt_logprobs", prompt_logprobs)
        check_observer(observe)
        prompts = as_batch(prompt)
        if params.num_beams > 1:
            groups = self._search(prompts, params, top, observe)
        elif observe is not None:
            raise ParameterError(
                *(Given("observe"), " has no effect without ", Given("num_beams")),
                " above 1: leave it out",
            )
        else:
            groups = self._draw(prompts, params, top, strategy)
        if prompt_logprobs:
            ranking.add_prompt_logprobs(self.decoder, chain.from_iterable(groups))
        results = groups if params.num_return_sequences > 1 else [best for (best,) in groups]
        return results if is_batch(prompt) else results[0]

    def stream(
        self,
        prompt: Prompt | Sequence[Prompt],
        *,
        draft: Draft | None = None,
        negative_prompt: Prompt | None = None,
        top_logprobs: int = 0,
        entropies: bool = False,
        **parameters: Any,
    ) -> Generator[Token, None, None]:
        """Write on from prompts, and give each token as it comes; parameters as `generate`'s.

        The pieces of text joined are the whole text. Of several prompts, and of several draws, the
        tokens come step by step, all sequences' in turn: draw d of prompt p is `sequence`
        p * num_return_sequences + d. `entropies` asks for each step's. Closing the iterator early
        frees its memory.

        Errors: as `generate`, by this call; what comes of running the model, by the iterator.
        """
        if "prompt_logprobs" in parameters:
            raise ParameterError(
                Given("prompt_logprobs"), ": stream gives new tokens alone; use generate"
            )
        params, strategy = self._understand(draft, negative_prompt, parameters)
        top = TopTokens(self.tokenizer, self.decoder.vocab_size, top_logprobs)
        flag("entropies", entropies)
        params.check_beside(STREAM_EXCLUDES)
        writers = self._writers(as_batch(prompt), params, strategy)
        return self._write(writers, params.max_time, top, strategy, entropies)

    def score(self, text: Prompt, *, add_bos: bool = True) -> Score:
        """The log-probability of each token of a text, or of token ids.

        With `add_bos` the text stands behind a BOS token, so that its first token is scored as
        well; without, or where it is BOS, its first token is only context. A text longer than the
        model is read in overlapping windows.

        Errors: PromptError where no token is left to be scored.
        """
        ids = self.to_score(text, add_bos)
        scored = ids[1:].tolist()
        text_bytes = len(decode(self.tokenizer, scored).encode())
        return Score(scored, score(self.decoder, ids).tolist(), text_bytes)

    def to_score(self, text: Prompt, add_bos: bool = True) -> Ids:
        """The token ids that `score` reads, all but the first of which it scores: [n], n >= 2."""
        return self._prompts.to_score(text, flag("add_bos", add_bos))

    def params(self, given: Mapping[str, Any]) -> GenerationParams:
        """The parameters of a call, over the model's own defaults. Errors: ParameterError."""
        params = GenerationParams.create(given, self.defaults)
        params.check_vocabulary(self.decoder.vocab_size)
        if params.dry_multiplier:
            breakers = self._breakers.ids(params.dry_breakers)
            params = replace(params, dry_sequence_breakers=breakers)
        return params

    def _understand(
        self, draft: Draft | None, negative_prompt: Prompt | None, given: Mapping[str, Any]
    ) -> tuple[GenerationParams, Strategy | None]:
        """The parameters of a call, and how it runs. Errors: ParameterError, PromptError."""
        if draft is not None:  # the model's own defaults of other drafts give way
            given = {**dict.fromkeys(DRAFTS), **given}
        else:
            check_no_draft(given)
        params = self.params(given)
        guidance = guidance_of(params, self._prompts.negative(negative_prompt, params))
        contrastive = contrastive_of(params, self.decoder)
        drafting = self._assistance.speculation(draft, params) or lookahead_of(params, self.decoder)
        return params, drafting or guidance or contrastive

    def _draw(
        self,
        prompts: Sequence[Prompt],
        params: GenerationParams,
        top: TopTokens,
        strategy: Strategy | None,
    ) -> list[list[Generation]]:
        """What is drawn, or greedily written, of each prompt. Errors: as `_search`."""
        writers = self._writers(prompts, params, strategy)
        written = [Generation(writer.sequence.prompt.tolist()) for writer in writers]
        with closing(self._write(writers, params.max_time, top, strategy)) as tokens:
            for token in tokens:
                written[token.sequence].add(token)
        return ranking.given(written, params)

    def _search(
        self,
        prompts: Sequence[Prompt],
        params: GenerationParams,
        top: TopTokens,
        observe: Observer | None,
    ) -> list[list[Generation]]:
        """What beams find for each prompt. Errors: PromptError, ParameterError."""
        ids = self._read(prompts, params, params.num_beams)
        return beam_writer.write(self.decoder, self.tokenizer, ids, params, top, observe)

    def _read(
        self, prompts: Sequence[Prompt], params: GenerationParams, rows_each: int
    ) -> list[Ids]:
        """The ids [n] of each prompt, with room for its rows. Errors: PromptError and its kinds."""
        ids = [self._prompts.context(prompt, params) for prompt in prompts]
        longest = max(map(len, ids), default=0)
        length = params.max_length or longest + params.max_new_tokens
        self._room.require(rows_each * len(ids), max(longest, length))
        return ids

    def _writers(
        self, prompts: Sequence[Prompt], params: GenerationParams, strategy: Strategy | None
    ) -> list[Writer]:
        """One for each sequence of each prompt. Errors: PromptError, ParameterError."""
        rows_each = strategy.rows_each if strategy else 1
        ids = self._read(prompts, params, rows_each * params.num_drawn)
        grammar = self._grammars.grammar(params)
        draws = [(prompt, draw) for prompt in ids for draw in range(params.num_drawn)]
        return [
            Writer(self.tokenizer, params, prompt, index, draw, grammar)
            for index, (prompt, draw) in enumerate(draws)
        ]

    def _write(
        self,
        writers: Sequence[Writer],
        max_time: float | None,
        top: TopTokens,
        strategy: Strategy | None,
        entropies: bool = False,
    ) -> Generator[Token, None, None]:
        """The tokens of all sequences as steps complete."""
        sequences = [writer.sequence for writer in writers]
        ahead = strategy.reads_ahead if isinstance(strategy, Lookahead) else 0
        self._reserve(sequences, strategy.rows_each if strategy else 1, ahead)
        advance = strategy.run if strategy else partial(run, whole=top.wanted or entropies)
        stats = strategy.stats if isinstance(strategy, Speculation | Lookahead) else {}
        with closing(advance(self.decoder, sequences, max_time)) as steps:
            for step in steps:
                last = step.finish_reason is not None
                yield Token(
                    step.token_id,
                    writers[step.sequence].take(last),
                    step.logprob,
                    step.finish_reason,
                    top(step.logits),
                    stats.get(step.sequence) if last else None,
                    step.sequence,
                    step.processed_logprob,
                    float(entropy(step.logits)) if entropies else None,
                    top.among(step.candidates),
                )

    def _reserve(self, sequences: Sequence[Continuation], rows_each: int, ahead: int) -> None:
        """Make room for all that rows will hold; `ahead` are tokens beyond a sequence's end."""
        if sequences:
            longest = max(len(s.prompt) + s.params.max_new_tokens for s in sequences) + ahead
            self.decoder.reserve(rows_each * len(sequences), min(longest, self.decoder.n_positions))


def load(
    folder: str | Path,
    provider: str = "auto",
    provider_options: Mapping[str, object] | None = None,
    threads: int | None = None,
    startup_cache: bool = True,
    graph: str = "auto",
) -> Model:
    """`gpt2onnx.load`, of a folder only, whose docstring has the parameters and errors."""
    check_load(provider, provider_options, threads, startup_cache)
    alike = partial(
        load,
        provider=provider,
        provider_options=provider_options,
        threads=threads,
        startup_cache=startup_cache,
        graph=graph,
    )
    opened = open_model(folder, provider, provider_options, threads, startup_cache, graph=graph)
    return Model(*opened, alike)
