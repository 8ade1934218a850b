"""What tokens are made of, beside the tokenizers library."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE

from gpt2onnx.smaller.trim.merges import Merges
from tests.smaller.bpe_checkpoint import trained_tokenizer

LETTERS = "abc"


@st.composite
def merges(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Merges that no training would find: in any order, several for one token, in vain."""
    tokens = list(LETTERS)
    pairs: list[tuple[str, str]] = []
    for _ in range(draw(st.integers(1, 12))):
        pair = (draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens)))
        pairs.append(pair)
        if "".join(pair) not in tokens:
            tokens.append("".join(pair))
    return draw(st.permutations(pairs))


def bpe(tokens: list[str], pairs: list[tuple[str, str]]) -> Tokenizer:
    return Tokenizer(BPE({token: index for index, token in enumerate(tokens)}, pairs))


def tokens_of(pairs: list[tuple[str, str]]) -> list[str]:
    return [*LETTERS, *sorted({"".join(pair) for pair in pairs} - {*LETTERS})]


@given(merges(), st.lists(st.text(LETTERS, min_size=1, max_size=12), min_size=1))
def test_kept_with_their_makings_tokens_come_out_the_same(
    pairs: list[tuple[str, str]], words: list[str]
) -> None:
    whole = bpe(tokens_of(pairs), pairs)
    seen = {token for word in words for token in whole.encode(word).tokens}
    kept = sorted(set(LETTERS).union(*map(Merges(pairs).makings, seen)))
    left = [pair for pair in pairs if {*pair, "".join(pair)} <= {*kept}]
    fewer = bpe(kept, left)
    for word in words:
        assert fewer.encode(word).tokens == whole.encode(word).tokens


@given(merges())
def test_the_way_to_a_token_ends_where_the_library_does(pairs: list[tuple[str, str]]) -> None:
    library = bpe(tokens_of(pairs), pairs)
    for token in tokens_of(pairs):
        reached = library.encode(token).tokens == [token]
        assert reached or Merges(pairs).makings(token) == {token}


def test_of_a_trained_tokenizer_each_token_is_made_of_its_merge() -> None:
    """Worked by hand: "abc" is "ab" and "c", "ab" is "a" and "b"."""
    found = Merges([("b", "c"), ("a", "b"), ("ab", "c"), ("a", "b")])
    assert found.makings("abc") == {"abc"}  # b and c go first
    assert Merges([("a", "b"), ("b", "c"), ("ab", "c")]).makings("abc") == {
        *("abc", "ab", "a", "b", "c")
    }
    content = json.loads(trained_tokenizer().to_str())["model"]
    merges = Merges(map(tuple, content["merges"]))
    for first, second in content["merges"]:
        made = merges.makings(first + second)
        assert made >= {first, second, first + second}
        assert made == {first + second} | merges.makings(first) | merges.makings(second)


def test_a_repeated_letter_is_merged_from_the_left() -> None:
    pairs = [("a", "a"), ("aa", "a")]
    assert bpe(["a", "aa", "aaa"], pairs).encode("aaa").tokens == ["aaa"]
    assert Merges(pairs).makings("aaa") == {"aaa", "aa", "a"}
    assert not list(itertools.filterfalse(Merges(pairs).makings("aaa").__contains__, ["a", "aa"]))
