"""Model: a folder, its tokenizer and its decoder; generate, stream and score.

Where text becomes tokens and tokens become text. Knows no graph, and of samplers their parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack, overload

import tokenizers

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.runtime.call import Call, ScoreCall
from gpt2onnx.runtime.decoder.cache_size import cache_bytes_per_token
from gpt2onnx.runtime.decoder.protocol import Decoder, Ids
from gpt2onnx.runtime.decoding.assistance import Assistance, Draft, check_no_draft
from gpt2onnx.runtime.decoding.drawn_texts import DrawnTexts
from gpt2onnx.runtime.decoding.plain import plain_tasks
from gpt2onnx.runtime.decoding.ranking import PromptLogprobs
from gpt2onnx.runtime.decoding.results import Generation, Score, Token
from gpt2onnx.runtime.decoding.scoring import LogprobsTask
from gpt2onnx.runtime.decoding.sequence import Step
from gpt2onnx.runtime.decoding.strategy import Strategy, strategy_of
from gpt2onnx.runtime.decoding.task import Task
from gpt2onnx.runtime.decoding.text_sequence import TextSequence
from gpt2onnx.runtime.decoding.top_tokens import TopTokens
from gpt2onnx.runtime.engine.loop import run
from gpt2onnx.runtime.engine.model_prefixes import ModelPrefixes
from gpt2onnx.runtime.folder.model_folder import ModelFolder
from gpt2onnx.runtime.machine.room import Room
from gpt2onnx.runtime.open_model import bos_token_id, generation_defaults, open_model
from gpt2onnx.runtime.ort.load_params import check_load
from gpt2onnx.runtime.ort.session import Session
from gpt2onnx.runtime.structured.grammars import GrammarCompiler
from gpt2onnx.runtime.text.dry_breakers import BreakerFinder
from gpt2onnx.runtime.text.prompts import Prompt, PromptReader, as_batch, is_batch
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.samplers.params import DRAFTS
from gpt2onnx.samplers.params.rules import STREAM_EXCLUDES
from gpt2onnx.samplers.params.values import flag

if TYPE_CHECKING:
    from gpt2onnx.runtime.decoding.beam_texts import BeamTexts
    from gpt2onnx.runtime.decoding.beams import Observer
    from gpt2onnx.samplers.params.keywords import GenerationKeywords

# Told a prompt's rows, the prompts, and the tokens of a row at most; raises where none is left.
RoomCheck: TypeAlias = Callable[[int, int, int], None]


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
        self.prefixes = ModelPrefixes(folder, session, decoder)

    def __repr__(self) -> str:
        return f"Model({str(self.folder.path)!r}, provider={self.session.provider!r})"

    @overload  # a str is a sequence of str as well: this one goes first
    def generate(  # type: ignore[overload-overlap]
        self,
        prompt: Prompt,
        *,
        draft: Draft | None = None,
        negative_prompt: Prompt | None = None,
        top_logprobs: int = 0,
        prompt_logprobs: bool = False,
        observe: Observer | None = None,
        **parameters: Unpack[GenerationKeywords],
    ) -> Generation: ...
    @overload
    def generate(
        self,
        prompt: Sequence[Prompt],
        *,
        draft: Draft | None = None,
        negative_prompt: Prompt | None = None,
        top_logprobs: int = 0,
        prompt_logprobs: bool = False,
        observe: Observer | None = None,
        **parameters: Unpack[GenerationKeywords],
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
        """Write on from a prompt: what comes after it, as text and tokens.

        prompt: a text, token ids, or a list of either. The prompts of a list share each step.
        draft: a smaller model with the same tokenizer, open or its folder, which stays open then
            ("demo-draft" is the bundled model's). It guesses ahead, so that the text comes sooner;
            the text is what it would be without (`speculation` says why).
            prompt_lookup_num_tokens and lookahead_window_size guess without a second model.
        negative_prompt: what guidance_scale leads away from: a text or ids, one for all prompts.
            Left out, it is each prompt's last token alone.
        top_logprobs: how many alternatives to tell with each token, before and after penalties and
            warpers (of beams: before).
        prompt_logprobs: whether to tell the log-probabilities of the prompt's tokens, too. Each
            prompt is then read once more, which costs what `score` does.
        observe: is told of every step of a beam search.
        parameters: GenerationParams' fields, by transformers' names (docs/parameters.md has them
            all). What isn't given, the model's own generation_config.json says.

        Five of them at more length:

        - best_of draws that many, and gives the num_return_sequences best of them, by the model's
          own mean log-probability of a token, best first.
        - return_alternatives begins the sequences with the most probable first tokens, one each,
          best first, among those that penalties and constraints leave.
        - `stop_fn(sequence_index, history)` is told all tokens of a sequence, prompt and new, after
          each one but an end token and one that completes a stop string or a form. Where it says
          True that token is the last, and finish_reason is "stopped".
        - prefill_ids are tokens that the text begins with, as if they had been chosen: limits,
          penalties, stop strings, forms and the seed's random numbers count them in, and what comes
          behind them is given, bit for bit what a run gives that has chosen them. Where they
          complete the text nothing follows, and finish_reason says why it ended. best_of compares
          what follows.
        - regex, json_schema, grammar and choices hold the text to a form. finish_reason is "eos" or
          "stop" where it is complete; otherwise a limit cut it short.

        Returns a Generation for one prompt; with num_return_sequences above 1 a list of them (of
        beams the best first, fewer where constraints leave fewer); for a list of prompts the list
        of what each one gives.

        Raises ParameterError, PromptError and its kinds; OutOfMemoryError, before anything is
        written, where the sequences don't fit into memory; InstallationError where a form is asked
        for and llguidance is missing.
        """
        call = self.call(
            prompt,
            draft=draft,
            negative_prompt=negative_prompt,
            top_logprobs=top_logprobs,
            prompt_logprobs=prompt_logprobs,
            observe=observe,
            **parameters,
        )
        with closing(run(self.decoder, call.tasks, call.params.max_time)) as events:
            for event in events:
                call.take(event)
        for task in call.scoring_tasks:  # one after the other: each has a row of its own
            for _ in run(self.decoder, [task]):
                pass
        return call.results()

    def call(
        self,
        prompt: Any,
        *,
        draft: Draft | None = None,
        negative_prompt: Prompt | None = None,
        top_logprobs: int = 0,
        prompt_logprobs: bool = False,
        observe: Observer | None = None,
        room: RoomCheck | None = None,
        **parameters: Any,
    ) -> Call:
        """What `generate` is asked for, as tasks for an engine. Parameters and errors as there.

        `room` is told the rows of a prompt, how many prompts there are, and the most tokens that a
        row may take, before anything is made of them; it raises where there is no room. Without
        it the machine must have memory for all at once.
        """
        params, strategy = self._understand(draft, negative_prompt, parameters)
        top = TopTokens(self.tokenizer, self.decoder.vocab_size, top_logprobs)
        flag("prompt_logprobs", prompt_logprobs)
        texts: BeamTexts | DrawnTexts
        if params.num_beams > 1:
            from gpt2onnx.runtime.decoding.beam_texts import BeamTexts  # few ask for beams
            from gpt2onnx.runtime.decoding.beams import check_observer

            check_observer(observe)
            ids = self._read(as_batch(prompt), params, params.num_beams, room)
            texts = BeamTexts(self.decoder, self.tokenizer, ids, params, top, observe)
        elif observe is not None:
            raise ParameterError(
                *(Given("observe"), " has no effect without ", Given("num_beams")),
                " above 1: leave it out",
            )
        else:
            rows_each = _rows_each(strategy) * params.num_drawn
            ids = self._read(as_batch(prompt), params, rows_each, room)
            texts = self._texts(ids, params, strategy, top)
        logprobs = PromptLogprobs(self.decoder, ids, top) if prompt_logprobs else None
        return Call(params, texts, logprobs, is_batch(prompt))

    def stream(
        self,
        prompt: Prompt | Sequence[Prompt],
        *,
        draft: Draft | None = None,
        negative_prompt: Prompt | None = None,
        top_logprobs: int = 0,
        entropies: bool = False,
        **parameters: Unpack[GenerationKeywords],
    ) -> Generator[Token, None, None]:
        """Write on from prompts, and give each token as it comes; parameters as `generate`'s.

        The pieces of text joined are the whole text. Of several prompts, and of several draws, the
        tokens come step by step, all sequences' in turn: draw d of prompt p is `sequence`
        p * num_return_sequences + d. `entropies` asks for each step's. Closing the iterator early
        frees its memory.

        Raises as `generate` does, by this call; what comes of running the model, by the iterator.
        """
        if "prompt_logprobs" in parameters:
            raise ParameterError(
                Given("prompt_logprobs"), ": stream gives new tokens alone; use generate"
            )
        params, strategy = self._understand(draft, negative_prompt, parameters)
        top = TopTokens(self.tokenizer, self.decoder.vocab_size, top_logprobs)
        flag("entropies", entropies)
        params.check_beside(STREAM_EXCLUDES)
        ids = self._read(as_batch(prompt), params, _rows_each(strategy) * params.num_drawn)
        texts = self._texts(ids, params, strategy, top, entropies)
        return self._tokens(texts, params.max_time)

    def score(self, text: Prompt, *, add_bos: bool = True, top_logprobs: int = 0) -> Score:
        """The log-probability of each token of a text, or of token ids.

        `top_logprobs` asks for that many of the most probable tokens in each one's place.

        With `add_bos` the text stands behind a BOS token, so that its first token is scored as
        well; without, or where it is BOS, its first token is only context. A text longer than the
        model is read in overlapping windows.

        Raises PromptError where no token is left to be scored.
        """
        call = self.score_call([text], add_bos=add_bos, top_logprobs=top_logprobs)
        for _ in run(self.decoder, call.tasks):
            pass
        return call.results()[0]

    def score_call(
        self, texts: Sequence[Prompt], *, add_bos: bool = True, top_logprobs: int = 0
    ) -> ScoreCall:
        """What `score` is asked for, of several texts, as tasks for an engine."""
        top = TopTokens(self.tokenizer, self.decoder.vocab_size, top_logprobs)
        tasks = [
            LogprobsTask(self.decoder, self.to_score(text, add_bos), top=top.count)
            for text in texts
        ]
        return ScoreCall(tasks, top, self.tokenizer)

    def token_ids(self, text: Prompt) -> Ids:
        """The ids [n] of a text, or ids as they are. Raises PromptError and its kinds."""
        return self._prompts.encode(text)

    def prompt_ids(self, prompt: Prompt, **parameters: Any) -> Ids:
        """The token ids [n] that `generate` starts from. Parameters and errors as there."""
        return self._prompts.context(prompt, self.params(parameters))

    def save_prefix(self, path: str | Path, prompt: Prompt) -> int:
        """Keep what the model computes of a prompt on disk, for Engine.load_prefix.

        Gives how many of its tokens that is: whole chunks of 64. Raises ParameterError for a
        shorter prompt, PromptError, OutputExistsError, StorageError.
        """
        return self.prefixes.save(path, self._prompts.read(prompt))

    def to_score(self, text: Prompt, add_bos: bool = True) -> Ids:
        """The token ids that `score` reads, all but the first of which it scores: [n], n >= 2."""
        return self._prompts.to_score(text, flag("add_bos", add_bos))

    def params(self, given: Mapping[str, Any]) -> GenerationParams:
        """The parameters of a call, over the model's own defaults. Raises ParameterError."""
        params = GenerationParams.create(given, self.defaults)
        params.check_vocabulary(self.decoder.vocab_size)
        if params.dry_multiplier:
            breakers = self._breakers.ids(params.dry_breakers)
            params = replace(params, dry_sequence_breakers=breakers)
        return params

    def _understand(
        self, draft: Draft | None, negative_prompt: Prompt | None, given: Mapping[str, Any]
    ) -> tuple[GenerationParams, Strategy | None]:
        """The parameters of a call, and how it runs. Raises ParameterError, PromptError."""
        if draft is not None:  # the model's own defaults of other drafts give way
            given = {**dict.fromkeys(DRAFTS), **given}
        else:
            check_no_draft(given)
        params = self.params(given)
        negative = self._prompts.negative(negative_prompt, params)
        strategy = strategy_of(params, self.decoder, negative)
        return params, self._assistance.speculation(draft, params) or strategy

    def _texts(
        self,
        ids: Sequence[Ids],
        params: GenerationParams,
        strategy: Strategy | None,
        top: TopTokens,
        entropies: bool = False,
    ) -> DrawnTexts:
        """What is drawn, or greedily written, of prompts [n]. Raises ParameterError."""
        grammar = self._grammars.grammar(params)
        draws = [(prompt, draw) for prompt in ids for draw in range(params.num_drawn)]
        writers = [
            TextSequence(self.tokenizer, params, prompt, index, draw, grammar)
            for index, (prompt, draw) in enumerate(draws)
        ]
        begun = [writer.sequence for writer in writers]
        sequences = [each for each in begun if not each.finish_reason]
        tasks: Sequence[Task[Step]]
        if strategy is None:
            tasks = plain_tasks(self.decoder, sequences, whole=top.wanted or entropies)
        else:
            tasks = strategy.tasks(self.decoder, sequences)
        stats = getattr(strategy, "stats", {})  # of drafts, by those that draft
        return DrawnTexts(writers, tasks, params, top, stats, entropies)

    def _read(
        self,
        prompts: Sequence[Prompt],
        params: GenerationParams,
        rows_each: int,
        room: RoomCheck | None = None,
    ) -> list[Ids]:
        """The ids [n] of each prompt, with room for its rows. Raises PromptError and its kinds."""
        ids = [self._prompts.context(prompt, params) for prompt in prompts]
        longest = max(map(len, ids), default=0)
        length = max(longest, params.max_length or longest + params.max_new_tokens)
        if room is None:
            self._room.require(rows_each * len(ids), length)
        else:
            room(rows_each, len(ids), length)
        return ids

    def _tokens(self, texts: DrawnTexts, max_time: float | None) -> Generator[Token, None, None]:
        """The tokens of all sequences as they come."""
        with closing(run(self.decoder, texts.tasks, max_time)) as steps:
            yield from map(texts.token, steps)


def _rows_each(strategy: Strategy | None) -> int:
    """The rows that a sequence takes."""
    return strategy.rows_each if strategy else 1


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
