"""Texts as token ids, by a tokenizer whose tokens are known."""

from __future__ import annotations

import pytest
import tokenizers
from tokenizers import decoders, models

from gpt2onnx import Model
from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.text.dry_breakers import BreakerFinder

# Ċ is a line break, Ġ a space, in GPT-2's alphabet of bytes; Ãī are the two bytes of É.
TOKENS = ["a", "Ċ", '."', '"', "ĊĊ", "Ġb:", "Ã", "ī", "*"]


@pytest.fixture
def finder() -> BreakerFinder:
    vocab = {token: index for index, token in enumerate(TOKENS)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    # A model may have more tokens than its tokenizer.
    return BreakerFinder(tokenizer, len(TOKENS) + 3)


@pytest.mark.parametrize(
    ("breakers", "ids"),
    [
        (["\n"], (1, 4)),
        (['"'], (2, 3)),
        (["\n", ":", '"', "*"], (1, 2, 3, 4, 5, 8)),
        ([" b"], (5,)),
        ([0, "*"], (0, 8)),
        ([7, 7, 6], (6, 7)),
        ([], ()),
        (["?", "*"], (8,)),
    ],
)
def test_finds_every_token_that_holds_the_text(
    finder: BreakerFinder, breakers: list[str | int], ids: tuple[int, ...]
) -> None:
    assert finder.ids(breakers) == ids


@pytest.mark.parametrize("text", ["É", "ab", "**"])
def test_a_text_that_no_token_holds_is_an_error(finder: BreakerFinder, text: str) -> None:
    with pytest.raises(ParameterError, match=r"dry_sequence_breakers holds .*, which no token"):
        finder.ids([text])


def test_a_model_finds_those_of_a_call(model: Model) -> None:
    """The tokenizer of the tests has a token a byte."""
    encoded = model.tokenizer.encode('\n:"*').ids
    params = model.params({"dry_multiplier": 0.8})
    assert params.dry_sequence_breakers == tuple(sorted(encoded))
    params = model.params({"dry_multiplier": 0.8, "dry_sequence_breakers": [5, "*"]})
    assert params.dry_sequence_breakers == tuple(sorted([5, encoded[-1]]))
    assert model.params({}).dry_sequence_breakers is None


def test_dry_ends_a_loop(model: Model) -> None:
    """A random model's greedy text repeats itself; with DRY no five tokens come twice."""
    given = {"max_new_tokens": 50, "eos_token_id": None}
    plain = model.generate("abc", **given).token_ids
    dry = model.generate(
        "abc", dry_multiplier=1e6, dry_allowed_length=4, dry_sequence_breakers=[], **given
    ).token_ids
    assert repeats(plain)
    assert not repeats(dry)


def repeats(tokens: list[int]) -> bool:
    fives = [tuple(tokens[start : start + 5]) for start in range(len(tokens) - 4)]
    return len(set(fives)) < len(fives)
