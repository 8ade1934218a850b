"""Compared with `tokenizer.decode` of everything at once, and with str.find."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.text.stop_strings import TextStream

GPT2 = Path(__file__).parents[3].parent / "shared/data/gpt2-tokenizer"
SPECIAL = "<|endoftext|>"
TEXTS = [
    "na\u00efve caf\u00e9",
    "你好,世界",
    "\U0001f9d1\u200d\U0001f680 and \U0001f469\u200d\U0001f467",
    "\u00a0\u2028",
    "plain words",
    "\ufffd!",
    "한국어",
]


@cache
def byte_tokenizer() -> Tokenizer:
    """GPT-2's without merges: a token a byte, then a special one (256) and an added word (257)."""
    vocabulary = {_byte_symbol(byte): byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([SPECIAL])
    tokenizer.add_tokens(["[user name]"])
    return tokenizer


def _byte_symbol(byte: int) -> str:
    """GPT-2's visible character for a byte, from the release's own bytes_to_unicode."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [number for number in range(256) if number not in visible]
    return chr(byte if byte in visible else 256 + hidden.index(byte))


@cache
def gpt2_tokenizer() -> Tokenizer:
    files = GPT2 / "vocab.json", GPT2 / "merges.txt"
    if not all(file.is_file() for file in files):
        pytest.skip(f"{GPT2} has no vocab.json and merges.txt of GPT-2's tokenizer")
    tokenizer = Tokenizer(models.BPE.from_file(*map(str, files)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([SPECIAL])
    return tokenizer


@cache
def wordpiece_tokenizer() -> Tokenizer:
    """Words joined with spaces, as in the Chinese GPT-2 that have BERT's tokenizer."""
    words = ["[UNK]", "[SEP]", "你", "好", "token", "##izer", "##s", ".", "n't", "\ufffd", "ab"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    tokenizer.add_special_tokens(["[UNK]", "[SEP]"])
    return tokenizer


@cache
def metaspace_tokenizer() -> Tokenizer:
    words = ["▁", "▁a", "b", "▁日", "本", "</s>"]
    tokenizer = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, []))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


@cache
def suffix_tokenizer() -> Tokenizer:
    words = ["un", "able</w>", "to</w>", "x"]
    tokenizer = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, []))
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    return tokenizer


@cache
def byte_fallback_tokenizer() -> Tokenizer:
    """Bytes as <0xE4>, decoded in runs, and a leading space stripped, as with SentencePiece."""
    words = ["▁", "▁a", "b", *(f"<0x{byte:02X}>" for byte in range(256)), "</s>"]
    tokenizer = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, []))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


SMALL = [wordpiece_tokenizer, metaspace_tokenizer, suffix_tokenizer, byte_fallback_tokenizer]


def pieces(
    tokenizer: Tokenizer,
    ids: Sequence[int],
    stop_strings: str | Sequence[str] = (),
    prompt_ids: Sequence[int] = (),
) -> list[str]:
    stream = TextStream(tokenizer, stop_strings, prompt_ids)
    return [*(stream.push(id_) for id_ in ids), stream.finish()]


def whole(tokenizer: Tokenizer, ids: Sequence[int], stop_strings: Sequence[str] = ()) -> str:
    """The definition, character by character: cut where a stop string is complete first.

    It is looked for in the text with special tokens, and the text without them is shown. Where the
    token with the stop string's beginning is a special one, that is the text of the tokens before;
    otherwise the stop string's beginning is as far from the token's end in the one as in the other.
    """
    ids, special = list(ids), special_texts(tokenizer)
    start = cut(tokenizer.decode(ids, skip_special_tokens=False), stop_strings)
    if start is None:
        return tokenizer.decode(ids, skip_special_tokens=True)
    last = next((n for n in range(len(ids)) if len(settled(tokenizer, ids[: n + 1])) > start), None)
    if last is None:  # in what only the end has settled
        searched, shown = (
            tokenizer.decode(ids, skip_special_tokens=skip) for skip in (False, True)
        )
        before = settled(tokenizer, without_special(tokenizer, ids))
    elif ids[last] in special:
        searched = settled(tokenizer, ids[: last + 1]).removesuffix(special[ids[last]])
        shown = tokenizer.decode(ids[:last], skip_special_tokens=True)
        before = settled(tokenizer, without_special(tokenizer, ids[:last]))
    else:
        searched = settled(tokenizer, ids[: last + 1])
        shown = settled(tokenizer, without_special(tokenizer, ids[: last + 1]))
        before = settled(tokenizer, without_special(tokenizer, ids[:last]))
    return shown[: max(len(before), len(shown) - max(0, len(searched) - start))]


def cut(text: str, stop_strings: Sequence[str]) -> int | None:
    """Where the stop string begins that is complete first, the longest of several."""
    for end in range(len(text) + 1):
        complete = [string for string in stop_strings if text[:end].endswith(string)]
        if complete:
            return end - max(map(len, complete))
    return None


def settled(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text that tokens make whatever comes after them."""
    ids = [id_ for id_ in ids if tokenizer.id_to_token(id_)]
    while ids and tokenizer.id_to_token(ids[-1]).startswith("<0x"):
        ids.pop()
    return tokenizer.decode(ids, skip_special_tokens=False).removesuffix("\ufffd")


@cache
def special_texts(tokenizer: Tokenizer) -> dict[int, str]:
    added = tokenizer.get_added_tokens_decoder().items()
    return {id_: token.content for id_, token in added if token.special}


def without_special(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    return [id_ for id_ in ids if id_ not in special_texts(tokenizer)]


def assert_streams(
    tokenizer: Tokenizer, ids: Sequence[int], stop_strings: Sequence[str] = ()
) -> None:
    expected = whole(tokenizer, ids, stop_strings)
    stream = TextStream(tokenizer, stop_strings)
    shown = ""
    for id_ in ids:
        shown += stream.push(id_)
        # Never more than the final text, so no half character and no part of a stop string.
        assert expected.startswith(shown)
    shown += stream.finish()
    assert shown == expected
    searched = tokenizer.decode(list(ids), skip_special_tokens=False)
    assert stream.stopped == (cut(searched, stop_strings) is not None)


# Bytes that begin, continue, and break UTF-8 in each of its ways, more often than others.
marked = st.sampled_from(b"ab \x80\x90\xa0\xbf\xc2\xe0\xe4\xed\xef\xf0\xf4\xff")
byte_ids = marked | st.integers(0, 257) | st.just(256)
utf8 = st.sampled_from(TEXTS).map(lambda text: list(text.encode()))
byte_sequences = st.lists(utf8 | st.lists(byte_ids, max_size=4), max_size=8).map(
    lambda parts: list(itertools.chain(*parts))
)
# Parts of special tokens' texts, and what may stand before and behind them.
special_stops = st.builds(
    lambda text, start, length: text[start : start + length],
    st.sampled_from(["a<|endoftext|>", "<|endoftext|>\ufffd", "b </s>", "</s>a", " [SEP] 你"]),
    st.integers(0, 4),
    st.integers(1, 20),
).filter(bool)
few_stops = st.lists(st.text("ab \ufffd你", min_size=1, max_size=4) | special_stops, max_size=3)


@settings(deadline=None)
@given(byte_sequences, few_stops)
def test_joined_pieces_are_the_decoded_text_of_any_bytes(ids: list[int], stops: list[str]) -> None:
    assert_streams(byte_tokenizer(), ids, stops)


def test_joined_pieces_are_the_decoded_text_of_every_short_broken_sequence() -> None:
    for ids in itertools.product(b"a\x80\x90\xe0\xf0\xf4", repeat=5):
        assert "".join(pieces(byte_tokenizer(), ids)) == byte_tokenizer().decode(list(ids))


@settings(deadline=None)  # the first one reads the tokenizer
@given(st.data())
def test_joined_pieces_are_the_decoded_text_of_gpt2s_tokens(data: st.DataObject) -> None:
    tokenizer = gpt2_tokenizer()
    texts = st.sampled_from([*TEXTS, SPECIAL]) | st.text(max_size=6)
    encoded = texts.map(lambda text: tokenizer.encode(text).ids)
    random = st.lists(st.integers(0, tokenizer.get_vocab_size() + 5), max_size=6)
    parts = data.draw(st.lists(encoded | random, max_size=6))
    assert_streams(tokenizer, list(itertools.chain(*parts)), data.draw(few_stops))


@pytest.mark.parametrize("make", SMALL)
@settings(deadline=None)
@given(data=st.data())
def test_joined_pieces_are_the_decoded_text_of_other_tokenizers(make, data: st.DataObject) -> None:
    tokenizer = make()
    ids = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=12))
    assert_streams(tokenizer, ids, data.draw(few_stops))


@pytest.mark.parametrize("make", [byte_tokenizer, *SMALL])
@settings(deadline=None)
@given(data=st.data())
def test_a_fork_goes_its_own_way(make, data: st.DataObject) -> None:
    """Both go on as if each had read everything alone."""
    tokenizer = make()
    ids = st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=6)
    begin, one, other = data.draw(ids), data.draw(ids), data.draw(ids)
    stream = TextStream(tokenizer, data.draw(few_stops), begin)
    begun = [stream.push(id_) for id_ in begin]
    fork = stream.fork()
    shown = [(stream.push(a), fork.push(b)) for a, b in zip(one, other, strict=False)]
    for text, (stream_, rest) in enumerate([(stream, one), (fork, other)]):
        pieces = [*begun, *(pair[text] for pair in shown)]
        pieces += [stream_.push(id_) for id_ in rest[len(shown) :]] + [stream_.finish()]
        alone = TextStream(tokenizer, stream._stops.strings, begin)
        expected = [alone.push(id_) for id_ in [*begin, *rest]] + [alone.finish()]
        assert pieces == expected
        assert stream_.stopped == alone.stopped


@pytest.mark.parametrize("character", ["é", "你", "🙂"])
def test_a_character_is_shown_once_and_whole(character: str) -> None:
    shown = pieces(byte_tokenizer(), list(f"a{character}b".encode()))
    assert [piece for piece in shown if piece] == ["a", character, "b"]


def test_a_character_in_byte_fallback_tokens_is_shown_when_the_run_ends() -> None:
    tokenizer = byte_fallback_tokenizer()
    ids = [tokenizer.token_to_id(token) for token in ["b", "<0xE4>", "<0xBD>", "<0xA0>", "b"]]
    assert pieces(tokenizer, ids) == ["b", "", "", "", "你b", ""]


def test_bytes_that_never_become_a_character_are_shown_with_a_delay_of_one() -> None:
    assert pieces(byte_tokenizer(), b"\xff\xff\xff") == ["", "\ufffd", "\ufffd", "\ufffd"]
    assert pieces(byte_tokenizer(), b"a\xe4\xbd") == ["a", "", "", "\ufffd"]
    assert pieces(byte_tokenizer(), b"a\xe4\xbdb") == ["a", "", "", "\ufffdb", ""]


class CountingTokenizer:
    """A tokenizer that counts the tokens it decodes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.decoded = tokenizer, 0

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        self.decoded += len(ids)
        return self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def __getattr__(self, name: str):
        return getattr(self.tokenizer, name)


@pytest.mark.parametrize("text", [b"\xff", b"\x80", b"\xf0", b"a", "你".encode()])
def test_a_tokens_cost_does_not_grow_with_the_text(text: bytes) -> None:
    counting = CountingTokenizer(byte_tokenizer())
    pieces(counting, text * 1000, ["never"])
    assert counting.decoded <= 10 * len(text) * 1000


def test_byte_fallback_tokens_cost_no_more_in_a_long_run() -> None:
    counting = CountingTokenizer(byte_fallback_tokenizer())
    pieces(counting, [3 + 0xFF] * 1000)
    assert counting.decoded <= 2000


def test_special_and_unknown_tokens_show_nothing() -> None:
    assert pieces(byte_tokenizer(), [*b"a", 256, 999, *b"b"]) == ["a", "", "", "b", ""]
    # Nor do they come between the bytes of a character.
    assert pieces(byte_tokenizer(), [0xE4, 256, 0xBD, 999, 0xA0]) == ["", "", "", "", "你", ""]


def test_added_tokens_that_are_not_special_are_text() -> None:
    assert "".join(pieces(byte_tokenizer(), [*b"a", 257, *b"b"])) == "a[user name]b"


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("aaab and on", ["aab"], "a"),  # overlaps itself
        ("abababac", ["ababac"], "ab"),
        ("xabc", ["ab", "abc"], "x"),  # one begins another
        ("xabc", ["abc", "ab"], "x"),
        ("xabcd", ["bcd", "abc"], "x"),
        ("xabcd", ["abcd", "bc"], "xa"),  # the first to be complete, not the first to begin
        ("xabc", ["bc", "abc"], "x"),  # both complete at once: the longer
        ("Q: one\nQ: two", ["\nQ:"], "Q: one"),
        ("fin 你好", ["你"], "fin "),
        ("no stop here, almo", ["almost"], "no stop here, almo"),
        ("stop", ["stop"], ""),
    ],
)
def test_text_ends_just_before_a_stop_string(text: str, stops: list[str], expected: str) -> None:
    shown = pieces(byte_tokenizer(), list(text.encode()), stops)
    assert "".join(shown) == expected
    assert whole(byte_tokenizer(), list(text.encode()), stops) == expected


def test_the_cut_does_not_depend_on_the_borders_of_tokens() -> None:
    tokenizer = gpt2_tokenizer()
    text, stops = "one two\n\nUser: three", ["\nUser", "Us", "wo\n\nU"]
    long = tokenizer.encode(text).ids
    short = [tokenizer.token_to_id(_byte_symbol(byte)) for byte in text.encode()]
    assert "".join(pieces(tokenizer, long, stops)) == "".join(pieces(tokenizer, short, stops))


def test_a_possible_stop_string_is_held_back_and_released() -> None:
    assert pieces(byte_tokenizer(), b"a\n\nb", ["\n\n\n"]) == ["a", "", "", "\n\nb", ""]
    assert pieces(byte_tokenizer(), b"a\n", ["\n\n"]) == ["a", "", "\n"]


def test_nothing_is_shown_after_a_stop_string() -> None:
    stream = TextStream(byte_tokenizer(), "b")
    assert [stream.push(id_) for id_ in b"ab"] == ["a", ""]
    assert stream.stopped
    assert [stream.push(id_) for id_ in b"ca"] == ["", ""]
    assert stream.finish() == ""


def test_a_stop_string_is_found_in_what_was_held_to_the_end() -> None:
    stream = TextStream(byte_tokenizer(), ["\ufffd"])
    assert [stream.push(id_) for id_ in b"a\xe4"] == ["a", ""]
    assert not stream.stopped
    assert stream.finish() == ""
    assert stream.stopped


@pytest.mark.parametrize("stops", [[""], "", ["a", ""], [1], [b"a"]])
def test_stop_strings_must_be_texts(stops) -> None:
    with pytest.raises(ParameterError, match=r"stop_strings=\[.*: expected texts"):
        TextStream(byte_tokenizer(), stops)


@settings(deadline=None)
@given(st.lists(utf8, max_size=3), byte_sequences)
def test_after_a_prompt_of_whole_characters_bytes_read_as_alone(
    prompt: list[list[int]], ids: list[int]
) -> None:
    shown = pieces(byte_tokenizer(), ids, prompt_ids=list(itertools.chain(*prompt)))
    assert "".join(shown) == byte_tokenizer().decode(ids)


@settings(deadline=None)
@given(byte_sequences, byte_sequences)
def test_prompt_and_continuation_make_the_text_of_both(prompt: list[int], ids: list[int]) -> None:
    tokenizer = byte_tokenizer()
    before, both = tokenizer.decode(prompt), tokenizer.decode(prompt + ids)
    shown = "".join(pieces(tokenizer, ids, prompt_ids=prompt))
    # Where the prompt ends in half a character, the continuation begins with the whole one.
    kept = before if both.startswith(before) else before[:-1]
    assert kept + shown == both


def test_a_continuation_completes_the_prompts_half_character() -> None:
    assert "".join(pieces(byte_tokenizer(), b"\xa0!", prompt_ids=b"a\xe4\xbd")) == "你!"
    assert "".join(pieces(byte_tokenizer(), b"b", prompt_ids=b"a\xe4\xbd")) == "b"
    assert "".join(pieces(byte_tokenizer(), b"", prompt_ids=b"a\xe4\xbd")) == ""


def test_after_a_prompt_words_are_joined_as_within_a_text() -> None:
    tokenizer = wordpiece_tokenizer()
    token, izer, sep = (tokenizer.token_to_id(word) for word in ["token", "##izer", "[SEP]"])
    assert pieces(tokenizer, [token, izer]) == ["token", "izer", ""]
    assert pieces(tokenizer, [token, izer], prompt_ids=[token, sep]) == [" token", "izer", ""]
    assert pieces(tokenizer, [izer], prompt_ids=[token]) == ["izer", ""]


def test_a_prompts_run_of_byte_tokens_is_read_whole() -> None:
    tokenizer = byte_fallback_tokenizer()
    prompt, new = ([3 + byte for byte in text.encode()] for text in ("你好", "世"))
    assert "".join(pieces(tokenizer, new, prompt_ids=prompt)) == "世"
    assert "".join(pieces(tokenizer, [], prompt_ids=prompt)) == ""


def test_stop_strings_are_not_looked_for_in_the_prompt() -> None:
    assert "".join(pieces(byte_tokenizer(), b"\nb", ["\n\n"], prompt_ids=b"a\n")) == "\nb"


BEFORE, BEHIND = "ab é", "\n你 c"


@pytest.mark.parametrize("make", [byte_tokenizer, gpt2_tokenizer])
def test_a_stop_string_may_touch_a_special_tokens_text_at_any_border(make) -> None:
    """Every part of a text as a stop string: the text before it is shown, special tokens aside."""
    tokenizer = make()
    before, (special,), behind = (tokenizer.encode(text).ids for text in (BEFORE, SPECIAL, BEHIND))
    text = BEFORE + SPECIAL + BEHIND
    for start in range(len(text)):
        expected = text[: min(start, len(BEFORE))] + text[len(BEFORE + SPECIAL) : start]
        for end in range(start + 1, len(text) + 1):
            if text.find(text[start:end]) < start:
                continue  # it has been complete before
            stream = TextStream(tokenizer, text[start:end])
            ids = [*before, special, *behind]
            assert "".join([*map(stream.push, ids), stream.finish()]) == expected
            assert stream.stopped


def test_a_stop_string_stops_with_the_token_that_completes_it() -> None:
    for stop, last in [("<|im", 2), ("b<|end", 2), (SPECIAL, 2), (f"{SPECIAL}c", 3), ("|>cd", 4)]:
        stream = TextStream(byte_tokenizer(), stop.replace("im", "en"))
        stops = []
        for id_ in [*b"ab", 256, *b"cd"]:
            stream.push(id_)
            stops.append(stream.stopped)
        assert stops.index(True) == last


def test_what_a_special_token_holds_back_is_shown_after_all() -> None:
    assert pieces(byte_tokenizer(), [*b"a", 256, *b"b"], [f"a{SPECIAL}c"]) == ["", "", "ab", ""]
    assert pieces(byte_tokenizer(), [*b"a", 256], [f"{SPECIAL}c"]) == ["a", "", ""]
    # The bytes before it are no character: not with what follows either.
    assert pieces(byte_tokenizer(), [*b"a\xe4", 256], [SPECIAL]) == ["a", "", "\ufffd", ""]


def test_ids_may_be_numpys() -> None:
    ids = np.array([*b"a\xe4\xbd", 256], np.int64)
    stream = TextStream(byte_tokenizer(), ["!"], ids)
    assert [stream.push(id_) for id_ in np.array([0xA0, *b"b!"], np.uint16)] == ["你", "b", ""]
