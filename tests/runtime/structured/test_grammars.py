"""Structured output: every text is one that another judge accepts, or the call is refused."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from gpt2onnx.errors import InstallationError, ParameterError
from gpt2onnx.runtime.decoder.protocol import Logits
from gpt2onnx.runtime.decoding.drafters import DraftModel, PromptLookup
from gpt2onnx.runtime.decoding.sequence import Step
from gpt2onnx.runtime.decoding.speculation import Speculation
from gpt2onnx.runtime.decoding.text_sequence import TextSequence
from gpt2onnx.runtime.structured.grammars import GrammarCompiler
from gpt2onnx.samplers import GenerationParams
from tests.fake_decoder import FakeDecoder
from tests.raising import raises
from tests.runtime.decoding.running import run_plain, run_strategy

jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("llguidance")

EOS = 0
SPARE = 3  # tokens of the model that the tokenizer doesn't have


def byte_tokenizer() -> tokenizers.Tokenizer:
    """An end token, the 256 bytes, and a few longer tokens that straddle a grammar's borders."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [('"', ":"), ('":', "Ġ"), ('"', ","), ("1", "2"), ("a", "b"), ("ab", "c"), ("}", "}")]
    names = ["<end>", *alphabet, *(a + b for a, b in merges)]
    bpe = models.BPE({name: id_ for id_, name in enumerate(names)}, merges)
    tokenizer = tokenizers.Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer


Strategy = Callable[..., Iterator[Step]]

TOKENIZER = byte_tokenizer()
VOCAB = TOKENIZER.get_vocab_size() + SPARE
COMPILER = GrammarCompiler(TOKENIZER, VOCAB)


def almost_flat(tokens: tuple[int, ...]) -> Logits:
    """A model that knows nothing: no two histories go on alike, and no token is unlikely."""
    return np.random.default_rng(tokens).normal(0, 0.3, VOCAB).astype(np.float32)


def write(count: int, strategy: Strategy = run_plain, **given: Any) -> list[tuple[str, str | None]]:
    """`count` texts, side by side, and how each of them ended."""
    settings = {
        "do_sample": True,
        "top_k": 0,
        "max_new_tokens": 4000,
        "eos_token_id": EOS,
        "seed": 0,
    }
    params = GenerationParams(**{**settings, **given})
    grammar = COMPILER.grammar(params)
    prompt = np.array([EOS])
    writers = [TextSequence(TOKENIZER, params, prompt, i, i, grammar) for i in range(count)]
    decoder = FakeDecoder(almost_flat)
    texts, reasons = [""] * count, [None] * count
    for step in strategy(decoder, [writer.sequence for writer in writers]):
        texts[step.sequence] += writers[step.sequence].take(step.finish_reason is not None)
        reasons[step.sequence] = step.finish_reason
    assert not decoder.rows
    return list(zip(texts, reasons, strict=True))


def complete(written: Sequence[tuple[str, str | None]]) -> list[str]:
    assert {reason for _, reason in written} <= {"eos", "stop"}
    return [text for text, _ in written]


WORD = {"type": "string", "maxLength": 6}
SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {"name": WORD, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 5},
    {"type": "array", "items": {"type": "number", "minimum": -1.5, "exclusiveMaximum": 2}},
    {"enum": ["é", 1, None, [True], {"a": "\n"}]},
    {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"},
    {"type": "string", "minLength": 2, "maxLength": 5},
    {"type": "string", "format": "date"},
    {"anyOf": [{"type": "integer"}, {"type": "null"}, {"const": "none"}]},
    {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"$ref": "#/$defs/node"}, "id": {"multipleOf": 5}},
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    {
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "b": {"type": "array", "prefixItems": [WORD], "items": False},
        },
        "required": ["a"],
        "additionalProperties": False,
    },
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_json_is_what_the_schema_allows(schema: dict[str, Any]) -> None:
    judge = jsonschema.Draft202012Validator(schema)
    for text in complete(write(1000, json_schema=schema)):
        judge.validate(json.loads(text))


REGEXES = [
    r"[a-f0-9]{8}-[a-f0-9]{4}",
    r"([0-9]{1,3}\.){3}[0-9]{1,3}",
    r"(yes|no|maybe)+!",
    r"ab|abc|abcd?e",
    r"a*b?",
    r".{1,3}",
    r"[^a-z]{2}/\\?",
    r"é+|[ü-ÿ]x",
    r"^(?i:key)=[^\s\x00-\x1f]{2,4}$",
    r"(?s:.)\n",
]


@pytest.mark.parametrize("regex", REGEXES)
def test_a_text_matches_the_whole_expression(regex: str) -> None:
    for text in complete(write(100, regex=regex)):
        assert re.fullmatch(regex, text)


def test_every_choice_comes_and_nothing_else() -> None:
    choices = ["yes", "yes, please", "no", "a(b)*", "é\n"]
    assert set(complete(write(100, choices=choices))) == set(choices)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4))
def test_any_texts_can_be_choices(choices: list[str]) -> None:
    assert set(complete(write(5, choices=choices))) <= set(choices)


def test_a_grammar_nests_as_no_expression_can() -> None:
    grammar = 'start: "(" start* ")" | "x"'
    written = write(100, grammar=grammar, max_new_tokens=80)
    texts = {text for text, reason in written if reason == "stop"}
    assert max(map(len, texts)) > 12
    for text in texts:
        rest = text.replace("x", "()")
        while rest != (rest := rest.replace("()", "")):
            pass
        assert not rest


def test_the_end_is_an_end_token_or_the_last_token_that_can_come() -> None:
    ends = dict(write(200, regex="a|ab"))
    assert ends == {"a": "eos", "ab": "stop"}
    (first,) = write(1, regex="abc", max_new_tokens=3)
    assert first == ("abc", "stop")  # no token is needed to say so


def test_a_limit_leaves_the_beginning_of_a_text() -> None:
    for text, reason in write(20, regex="(abc)+!", max_new_tokens=4):
        if reason == "length":
            assert any(re.fullmatch("(abc)+!", text + rest) for rest in ("!", "c!", "bc!", "abc!"))


def test_an_end_token_that_has_a_text_ends() -> None:
    newline = TOKENIZER.token_to_id("Ċ")
    texts = complete(write(50, regex=r"a[a\n]*", eos_token_id=[newline, VOCAB + 5]))
    assert all(re.fullmatch(r"a+\n?", text) for text in texts)
    with pytest.raises(ParameterError, match="can't be met: no token of the model may follow"):
        write(1, regex=r"\n", eos_token_id=newline)


def test_a_sequence_is_the_same_alone_and_in_a_batch() -> None:
    together = write(5, regex="[a-z]{9}")
    assert len(set(together)) == 5
    assert write(1, regex="[a-z]{9}") == together[:1]


@pytest.mark.parametrize("regex", ["(abc|x[0-9]{2})*!", "[a-z]{1,20}|[é-ÿ]{3}"])
def test_a_draft_changes_no_text(regex: str) -> None:
    """Not even one that runs into dead ends, or into the end of the text."""
    expected = write(20, regex=regex)
    for drafter in (PromptLookup(2), DraftModel(FakeDecoder(almost_flat))):
        speculation = Speculation(drafter, 4)
        assert write(20, partial(run_strategy, speculation), regex=regex) == expected
    assert sum(stats.accepted for stats in speculation.stats.values())  # the model's own


def test_a_guide_answers_for_any_history() -> None:
    """As drafts ask: ahead, then from an earlier place, and after a dead end."""
    grammar = COMPILER.grammar(GenerationParams(regex="ab*c|ax", eos_token_id=EOS))
    assert grammar
    guide, fresh = grammar.guide(1), grammar.guide
    a, b, c, x = (TOKENIZER.token_to_id(each) for each in "abcx")
    zeros = np.zeros(VOCAB, np.float32)
    for new in ([a], [a, b, b], [a, b, b, c], [a, b], [a, x], [], [a, b, c]):
        history = np.array([EOS, *new])
        expected = fresh(1)
        assert np.array_equal(guide.mask(history, zeros), expected.mask(history, zeros))
        assert guide.ends(history) == (new[-1:] in ([c], [x])) or not new
    with raises(ParameterError, named=("regex",)):
        guide.mask(np.array([EOS, c, c]), zeros)
    assert np.isfinite(guide.mask(np.array([EOS]), zeros)).sum() == 3  # a, ab, abc


def test_is_compiled_once() -> None:
    params = [GenerationParams(regex="q+", eos_token_id=EOS, max_new_tokens=n) for n in (1, 2)]
    assert COMPILER.grammar(params[0]) is COMPILER.grammar(params[1])
    assert COMPILER.grammar(GenerationParams(eos_token_id=EOS)) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"regex": "("}, r"regex='\(': .*unclosed group"),
        ({"regex": "a(?=b)"}, "look-ahead"),
        ({"regex": r"(a)\1"}, "backreferences"),
        ({"regex": r"[^\s\S]"}, "can't be met: no token of the model may follow the prompt"),
        ({"regex": r"a[^\s\S]"}, "can't be met: no token of the model may follow the prompt"),
        ({"json_schema": {"type": "integer", "minimum": 5, "maximum": 3}}, "Unsatisfiable schema"),
        ({"json_schema": {"enum": []}}, "Unsatisfiable schema"),
        ({"json_schema": {"type": "text"}}, "Invalid type: text"),
        ({"json_schema": {"not": {"type": "null"}}}, "Unimplemented keys"),
        ({"json_schema": {"$ref": "#/nowhere"}}, "json_schema="),
        ({"json_schema": '{"const": "\\ud800"}'}, "json_schema="),
        ({"grammar": "start: words"}, "unknown name"),
        ({"grammar": 'start: start "a"'}, "can't be met"),
        ({"grammar": "%%"}, "grammar='%%': "),
        ({"regex": "a" * 500_001}, "has 500,001 characters: expected at most 500,000"),
        ({"choices": ["a"] * 1_000_000}, "has 1,000,000 characters: expected at most"),
        ({"regex": "(" * 500 + ")" * 500}, "regex='"),
        ({"grammar": "start: " + "(" * 3000 + '"a"' + ")" * 3000}, "too deeply nested"),
        ({"grammar": "start: \0"}, "lexer error"),
        ({"choices": ["a"], "eos_token_id": None}, "choices=.* needs an end token"),
        ({"choices": ["a"], "eos_token_id": VOCAB}, "needs an end token"),
    ],
)
def test_refuses_before_the_first_token(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ParameterError, match=expected) as raised:
        COMPILER.grammar(GenerationParams(**{"eos_token_id": EOS, **given}))
    assert "\n" not in str(raised.value)


def test_a_dead_end_further_on_is_an_error_and_no_text() -> None:
    with pytest.raises(ParameterError, match="may follow the text so far; expected a constraint"):
        write(1, grammar='start: "b" x\nx: x "a"')


def test_what_is_too_complex_says_so() -> None:
    with pytest.raises(ParameterError, match="is too complex: lexer error: too many expressions"):
        write(1, regex="a{1000000}")


def test_a_panic_of_llguidances_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rust's, which Python gets as something that is no Exception; an interrupt passes through."""
    import llguidance

    class PanicException(BaseException):
        __module__ = "pyo3_runtime"

    for raised, expected in ((PanicException, ParameterError), (KeyboardInterrupt,) * 2):

        def panic(*args: Any, raised: type[BaseException] = raised) -> str:
            raise raised("index out\nof bounds")

        monkeypatch.setattr(llguidance.LLMatcher, "grammar_from_regex", panic, raising=False)
        with pytest.raises(expected, match=r"index out(\n| )of bounds"):
            write(1, regex="panics" + expected.__name__)


def test_refuses_a_tokenizer_that_it_can_not_read() -> None:
    words = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    with pytest.raises(ParameterError, match="tokenizer, which llguidance can't read: "):
        GrammarCompiler(words, 2).grammar(GenerationParams(regex="b", eos_token_id=0))


def test_without_llguidance_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(InstallationError, match=r"pip install 'gpt2onnx\[structured\]'"):
        GrammarCompiler(TOKENIZER, VOCAB).grammar(GenerationParams(regex="b", eos_token_id=0))
