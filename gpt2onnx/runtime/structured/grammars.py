"""Structured output: constrains a text to a regular expression, JSON schema, grammar or list.

llguidance (https://github.com/guidance-ai/llguidance) parses what is written with an Earley parser
over derivatives of regular expressions, and walks the vocabulary's tokens as a trie: at each step
it says which of them the constraint lets follow. Here its answer becomes a mask on the logits.

A text ends with an end token, or by itself where nothing else could follow. One that a limit cuts
is the beginning of a text that the constraint allows, no more.

Knows tokenizers and token histories; knows no decoder, and nothing of how a token is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import tokenizers

from gpt2onnx.errors import Given, Gpt2OnnxError, InstallationError, ParameterError, one_line
from gpt2onnx.runtime.decoder.protocol import Ids, Logits
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.samplers.candidates import BoolArray
from gpt2onnx.tokenizer.library import is_panic

# How llguidance lays JSON out, by json_layout's names. A schema's own "x-guidance", which is
# llguidance's (its docs/json_schema.md), has the last word.
_LAYOUTS: dict[str, dict[str, object]] = {
    "spaced": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
    "compact": {"whitespace_flexible": False},
    "free": {"whitespace_flexible": True},
}
_ONE_OF = (
    "oneOf's branches must be told apart by their types, or by a property that is required and has "
    "another const or enum in each; use anyOf where a text may meet several"
)
# Characters of a constraint. It takes seconds to compile longer ones.
_LONGEST = 500_000


class Guide:
    """What a constraint lets follow in one sequence.

    All answers are functions of the history [n], prompt and new tokens: it may go on, go back and
    be asked of again, as drafts do. The state, a parser's, is only moved to where it is asked for.
    """

    def __init__(self, grammar: Grammar, prompt_length: int) -> None:
        self._grammar, self._prompt_length = grammar, prompt_length
        self._matcher = grammar.start()
        self._consumed: list[int] = []

    def mask(self, history: Ids, logits: Logits) -> Logits:  # [n], [vocab] -> [vocab]
        """The logits, at -inf where a token may not follow.

        Raises ParameterError where none may: the constraint led into a dead end.
        """
        self._move(history)
        masked = logits.copy()
        np.putmask(masked, ~self._grammar.allowed(self._matcher), -np.inf)  # np.where takes longer
        return masked

    def ends(self, history: Ids) -> bool:  # [n]
        """Whether the text is complete, and nothing can follow it."""
        if history[-1] in self._grammar.eos_token_ids:
            return True
        self._move(history)
        return bool(self._matcher.is_stopped() and self._matcher.is_accepting())

    def require(self, tokens: Sequence[int]) -> None:
        """Raises ParameterError where the constraint lets no text begin with these tokens."""
        matcher, ends = self._grammar.start(), self._grammar.eos_token_ids
        for place, token in enumerate(tokens, 1):
            with _named_errors("the constraint"):
                if token in ends and matcher.is_accepting():
                    return
                if token in ends or not matcher.try_consume_tokens([token]):
                    raise self._grammar.not_beginning(token, place)

    def _move(self, history: Ids) -> None:
        """Bring the parser to the end of `history`."""
        new: list[int] = history[self._prompt_length :].tolist()
        if self._matcher.is_error():  # a draft's dead end, perhaps
            self._matcher, self._consumed = self._grammar.start(), []
        shared = _shared(self._consumed, new)
        with _named_errors("the constraint"):
            self._matcher.rollback(len(self._consumed) - shared)
            taken = shared + self._matcher.try_consume_tokens(new[shared:])
        self._consumed = new[:taken]
        if taken < len(new):
            raise self._grammar.stuck(self._matcher)


class Grammar:
    """A constraint, compiled for a tokenizer. Sequences share it, with a `guide` for each."""

    def __init__(
        self, matcher: Any, constraint: Given, vocab_size: int, eos_token_ids: Sequence[int]
    ) -> None:
        self.eos_token_ids = tuple(eos_token_ids)
        self._matcher, self._constraint = matcher, constraint
        self._vocab_size = vocab_size
        self._eos = list(eos_token_ids)
        self.allowed(self.start(), "the prompt")  # an error now where nothing at all matches

    def guide(self, prompt_length: int) -> Guide:
        """What may follow a prompt of that many tokens."""
        return Guide(self, prompt_length)

    def start(self) -> Any:
        """A matcher at the beginning."""
        return self._matcher.deep_copy()

    def allowed(self, matcher: Any, place: str = "the text so far") -> BoolArray:  # [vocab]
        """The tokens that may follow. Raises ParameterError where there are none."""
        with _named_errors(self._constraint):
            bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, count=self._vocab_size, bitorder="little").view(np.bool_)
        # An end token that is text to the grammar, such as a line break, ends all the same.
        allowed[self._eos] = matcher.is_accepting()
        if matcher.is_error() or not allowed.any():
            raise self.stuck(matcher, place)
        return allowed

    def not_beginning(self, token: int, place: int) -> ParameterError:
        """The error for a text that is given, and that begins otherwise than it may."""
        return ParameterError(
            *(Given("prefill_ids"), f": token {token}, number {place} of them, isn't what "),
            *(
                Given(self._constraint.name),
                " lets follow there; expected the beginning of a text ",
            ),
            "that it matches",
        )

    def stuck(self, matcher: Any, place: str = "the text so far") -> ParameterError:
        """The error for a text that can't go on, or for llguidance's having given it up."""
        given_up = matcher.stop_reason() in ("LexerTooComplex", "ParserTooComplex")
        error = _one_line(matcher.get_error())
        if given_up or error.startswith("lexer error"):
            return ParameterError(
                self._constraint,
                f" is too complex: {error}; expected less repetition, or fewer alternatives",
            )
        return ParameterError(
            self._constraint,
            f" can't be met: no token of the model may follow {place}; expected a constraint that "
            "some text of the model's tokens matches",
        )


class GrammarCompiler:
    """Compiles constraints for one model, and keeps the newest: the same one costs nothing again.

    A tokenizer is read at first use: 0.2 s for GPT-2's.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, vocab_size: int) -> None:
        self._tokenizer, self._vocab_size = tokenizer, vocab_size
        self._read = lru_cache(maxsize=4)(self._read_tokenizer)
        self._compile = lru_cache(maxsize=16)(self._compile_grammar)

    def grammar(self, params: GenerationParams) -> Grammar | None:
        """The constraint that the parameters hold, if any.

        Raises ParameterError where it is malformed, where nothing can match it, and where the model
        has no end token; InstallationError where llguidance is missing.
        """
        constraint = params.constraint
        if constraint is None:
            return None
        eos = tuple(token for token in params.eos_token_ids if token < self._vocab_size)
        if not eos:
            raise ParameterError(
                Given(*constraint),
                " needs an end token, and the model has none (",
                Given("eos_token_id", params.eos_token_id),
                f", vocabulary {self._vocab_size}): give one as ",
                Given("eos_token_id"),
            )
        return self._compile(*constraint, params.json_layout or "spaced", eos)

    def _compile_grammar(
        self, name: str, value: str | tuple[str, ...], layout: str, eos: tuple[int, ...]
    ) -> Grammar:
        llguidance = _llguidance()
        size = len(value) if isinstance(value, str) else sum(map(len, value))
        if size > _LONGEST:
            raise ParameterError(
                Given(name, value), f" has {size:,} characters: expected at most {_LONGEST:,}"
            )
        read = self._read(eos)
        with _named_errors(Given(name, value)):
            matcher = llguidance.LLMatcher(
                read,
                _source(llguidance.LLMatcher, name, value, layout),
                log_level=0,
                limits=llguidance.LLParserLimits(verbose_errors=False),
            )
            if matcher.is_error():
                raise ValueError(matcher.get_error())
            return Grammar(matcher, Given(name, value), self._vocab_size, eos)

    def _read_tokenizer(self, eos: tuple[int, ...]) -> Any:
        unreadable = (
            "structured output isn't possible with the model's tokenizer, which llguidance can't "
            "read"
        )
        with _named_errors(unreadable):
            return _llguidance().LLTokenizer(
                self._tokenizer.to_str(), n_vocab=self._vocab_size, eos_token=list(eos)
            )


def _source(matcher: Any, name: str, value: str | tuple[str, ...], layout: str) -> str:
    """The constraint in llguidance's own form."""
    source: str
    if name == "json_schema":
        # Here, since a model that is opened need not wait for decimals and fractions.
        from gpt2onnx.runtime.structured.json_schema import for_llguidance

        schema = for_llguidance(str(value))
        source = matcher.grammar_from_json_schema(schema, defaults=_LAYOUTS[layout])
    elif name == "grammar":
        source = matcher.grammar_from_lark(value)
    else:
        # One regular expression: whole texts would be lexemes, of which the longest one wins.
        regex = value if name == "regex" else "|".join(map(re.escape, value))
        source = matcher.grammar_from_regex(regex)
    return source


@contextmanager
def _named_errors(what: str | Given) -> Iterator[None]:
    """What llguidance raises, and what its own library panics with, as ParameterError."""
    try:
        yield
    except Gpt2OnnxError:
        raise
    except BaseException as error:  # a panic is no Exception
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise ParameterError(what, f": {_one_line(str(error))}") from error


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise InstallationError(
            f"structured output needs llguidance ({error}): pip install 'gpt2onnx[structured]'",
            name="llguidance",
        ) from error
    return llguidance


def _one_line(message: str) -> str:
    """An error of llguidance's without the quoted source and its carets, and in our words."""
    quoted = re.compile(r"\s*(\^+|\d+ \|.*|<.*>)?\s*")
    text = one_line("\n".join(line for line in message.splitlines() if not quoted.fullmatch(line)))
    return _ONE_OF if text.startswith("oneOf constraints are not supported") else text


def _shared(a: list[int], b: list[int]) -> int:
    """How many tokens both begin with alike."""
    if a == b[: len(a)]:  # it went on, as it nearly always does
        return len(a)
    return next(i for i, token in enumerate(a) if i == len(b) or token != b[i])
